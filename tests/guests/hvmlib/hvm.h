/*
 * What the PVH test kernels have beside guest.h's checks, traps and printing: a machine of their
 * own. Interrupts are off at the start; a vector's hook (trap_set_hook) is its handler.
 */
#ifndef GUESTS_HVM_H
#define GUESTS_HVM_H

#include "guest.h"
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>

#define AP_START        0x8000UL
#define VECTOR_CALLBACK 0xf3
#define VECTOR_TIMER    0x40
#define VECTOR_IPI      0x41

extern struct hvm_start_info *hvm_info;
extern uint64_t pml4[512], pd[2048]; /* one to one, 2 MiB each */

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    asm volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
/* False: #GP (this_cpu()->trap). */
bool try_rdmsr(uint32_t msr, uint64_t *v);
bool try_wrmsr(uint32_t msr, uint64_t v);
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}
static inline void irqs_on(void)
{
    asm volatile("sti" ::: "memory");
}
static inline void irqs_off(void)
{
    asm volatile("cli" ::: "memory");
}
/* Interrupts on, halted until one came, off again. */
static inline void wait_irq(void)
{
    asm volatile("sti; hlt; cli" ::: "memory");
}

/* Local APIC by its page. */
static inline volatile uint32_t *apic(unsigned offset)
{
    return (volatile uint32_t *)(0xfee00000UL + offset);
}
void apic_on(void);
void apic_ipi(uint32_t id, uint32_t low); /* ICR */
/* Starts CPU @n (APIC id 2 * n) by INIT and SIPI to run fn; it halts for good when that returns. */
bool ap_run(unsigned n, void (*fn)(void *), void *arg);

long hvm_param(unsigned op, unsigned index, uint64_t *value);
long callback_on(void); /* events come as VECTOR_CALLBACK, counted in event_count[] */
uint64_t ns_now(void);

#endif
