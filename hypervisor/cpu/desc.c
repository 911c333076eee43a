/*
 * Descriptor tables. Each CPU has one GDT page of ours: the selectors of cpu/cpu.h, at the upper
 * end of a GDT whose lower part is a vCPU's own (pv/segment.c maps the page there) or nothing.
 * One IDT for all, sealed after boot.
 */
#include "cpu/internal.h"
#include "lib/string.h"

#define GDT_OFFSET 0xe000 /* FIRST_RESERVED_GDT_PAGE, xen/arch-x86/xen.h */
#define GDT_LIMIT  0xefff

/* Accessed already, so that the CPU never writes to the page for them (APM vol. 2 section 4.8). */
#define DESC_CODE64    0x00af9b000000ffffUL
#define DESC_DATA      0x00cf93000000ffffUL
#define DESC_USER_CS32 0x00cffb000000ffffUL
#define DESC_USER_DATA 0x00cff3000000ffffUL
#define DESC_USER_CS64 0x00affb000000ffffUL
#define DESC_TSS       (0x89UL << 40) /* available 64-bit TSS */

struct table_register {
    uint16_t limit;
    uint64_t base;
} __packed;

struct gate { /* APM vol. 2 section 4.8.4 */
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

#define GATE_INTERRUPT 0x8e /* present, DPL 0: interrupts off on entry */
#define GATE_DPL3      0x60

extern const uint8_t idt_stubs[]; /* entry.S: 16 bytes each */
static struct gate idt[256] __ro_after_init __aligned(4096);

static unsigned ist_of(unsigned vector)
{
    switch (vector) {
    case X86_DB:
        return IST_DB;
    case X86_NMI:
        return IST_NMI;
    case X86_DF:
        return IST_DF;
    case X86_MC:
        return IST_MC;
    default:
        return 0;
    }
}

/* Only INT3 and INTO may be raised by guests' instructions; INT n gives #GP, which pv/ reads. */
void __init desc_init_idt(void)
{
    for (unsigned v = 0; v < 256; v++) {
        uint64_t to = (uint64_t)idt_stubs + v * 16;
        idt[v] = (struct gate){
            .offset_low = (uint16_t)to,
            .offset_middle = (uint16_t)(to >> 16),
            .offset_high = (uint32_t)(to >> 32),
            .selector = HV_CS,
            .ist = (uint8_t)ist_of(v),
            .type = GATE_INTERRUPT | (v == X86_BP || v == X86_OF ? GATE_DPL3 : 0),
        };
    }
}

static uint64_t *slot(uint64_t *gdt, uint16_t selector)
{
    return &gdt[((selector & ~7u) - GDT_OFFSET) / 8];
}

void desc_fill_gdt(uint64_t *gdt, const struct tss64 *tss)
{
    uint64_t base = (uint64_t)tss;
    *slot(gdt, HV_CS) = DESC_CODE64;
    *slot(gdt, HV_DS) = DESC_DATA;
    *slot(gdt, SEL_USER_CS32) = DESC_USER_CS32;
    *slot(gdt, SEL_USER_DS) = DESC_USER_DATA;
    *slot(gdt, SEL_USER_CS64) = DESC_USER_CS64;
    slot(gdt, SEL_TSS)[0] =
        (sizeof(*tss) - 1) | (base & 0xffffff) << 16 | DESC_TSS | (base >> 24 & 0xff) << 56;
    slot(gdt, SEL_TSS)[1] = base >> 32;
}

void cpu_load_own_gdt(void)
{
    struct table_register gdtr = {GDT_LIMIT, (uint64_t)this_cpu()->gdt - GDT_OFFSET};
    __asm__ volatile("lgdt %0" ::"m"(gdtr) : "memory");
    __asm__ volatile("lldt %w0" ::"r"(0));
}

void desc_load(struct cpu *c)
{
    struct table_register idtr = {sizeof(idt) - 1, (uint64_t)idt};
    uint64_t *tss = slot(c->gdt, SEL_TSS);
    cpu_load_own_gdt();
    __asm__ volatile("pushq %0\n"
                     "leaq 1f(%%rip), %%rax\n"
                     "pushq %%rax\n"
                     "lretq\n"
                     "1: mov %1, %%ss\n"
                     "mov %1, %%ds\n"
                     "mov %1, %%es\n"
                     "mov %2, %%fs\n"
                     "mov %2, %%gs\n" ::"i"(HV_CS),
                     "r"(HV_DS), "r"(0)
                     : "rax", "memory");
    tss[0] &= ~(2UL << 40); /* LTR refuses a busy one */
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    __asm__ volatile("lidt %0" ::"m"(idtr) : "memory");
}
