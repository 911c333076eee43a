/* What the files of this test share. */
#ifndef HVM_PLATFORM_TEST_H
#define HVM_PLATFORM_TEST_H

#include "hvm.h"

#define PIC_BASE     0x50 /* 16 vectors */
#define VECTOR_FIRST 0x60 /* of the local APIC's */
#define VECTOR_PIT   0x60
#define VECTOR_LINT0 0x61
#define VECTOR_RTC   0x62
#define VECTOR_HPET  0x63
#define VECTOR_SCI   0x64
#define VECTOR_LINE  0x65
#define VECTOR_LEVEL 0x66

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    asm volatile("inb %w1, %0" : "=a"(v) : "d"(port));
    return v;
}
static inline uint16_t inw(uint16_t port)
{
    uint16_t v;

    asm volatile("inw %w1, %0" : "=a"(v) : "d"(port));
    return v;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t v;

    asm volatile("inl %w1, %0" : "=a"(v) : "d"(port));
    return v;
}
static inline void outb(unsigned port, unsigned v)
{
    asm volatile("outb %0, %w1" ::"a"((uint8_t)v), "d"(port));
}
static inline void outw(unsigned port, unsigned v)
{
    asm volatile("outw %0, %w1" ::"a"((uint16_t)v), "d"(port));
}
static inline void outl(unsigned port, uint32_t v)
{
    asm volatile("outl %0, %w1" ::"a"(v), "d"(port));
}

static inline uint32_t ioapic_read(uint32_t index)
{
    volatile uint32_t *io = (uint32_t *)0xfec00000UL;

    io[0] = index;
    return io[4];
}
static inline void ioapic_write(uint32_t index, uint32_t v)
{
    volatile uint32_t *io = (uint32_t *)0xfec00000UL;

    io[0] = index;
    io[4] = v;
}
static inline volatile uint64_t *hpet(unsigned offset)
{
    return (volatile uint64_t *)(0xfed00000UL + offset);
}

extern volatile unsigned hits[256]; /* by vector; the hooks end the interrupt */
bool wait_hits(unsigned vector, unsigned n);
void run_for(unsigned ms); /* with interrupts on */
/* Some come meanwhile, but not more than 10000 a second, however long it took. */
bool hits_bounded(unsigned vector, unsigned ms);
void pic_start(void);      /* all masked */

void clocks(void);
void lines(void);
void abuse(void);

#endif
