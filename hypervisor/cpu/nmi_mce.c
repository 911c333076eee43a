/*
 * NMI: the stop signal among our CPUs, else the chipset's word of a memory or bus error.
 * Machine checks (APM vol. 2 chapter 9): uncorrected ones are the end, corrected ones are logged.
 * Both take no lock that the interrupted code might hold; logging from here only appends.
 */
#include "console/console.h"
#include "cpu/internal.h"

#define NMI_REASON            0x61 /* port: bit 7 memory parity (SERR), bit 6 channel check (IOCHK) */

#define MSR_MCG_CAP           0x179
#define MSR_MCG_STATUS        0x17a
#define MSR_MCG_CTL           0x17b
#define MSR_MC_CTL(i)         (0x400 + 4 * (i))
#define MSR_MC_STATUS(i)      (0x401 + 4 * (i))
#define MSR_MC_ADDR(i)        (0x402 + 4 * (i))
#define MCG_CAP_COUNT         0xff
#define MCG_CAP_CTL           (1UL << 8)
#define MC_STATUS_VALID       (1UL << 63)
#define MC_STATUS_UNCORRECTED (1UL << 61)
#define MC_STATUS_ADDR        (1UL << 58)

static unsigned banks __ro_after_init;

void nmi_handle(struct cpu_user_regs *regs)
{
    struct cpu *c = this_cpu();
    if (__atomic_load_n(&ipi_stopping, __ATOMIC_SEQ_CST)) {
        for (;;)
            __asm__ volatile("cli; hlt");
    }
    c->in_nmi++;
    if (c->id == 0) {
        uint8_t reason = inb(NMI_REASON);
        if (reason & 0xc0) {
            log_error("NMI: %s", reason & 0x80 ? "memory or system error" : "I/O channel check");
            outb(NMI_REASON, (reason & 0x0f) | 0x0c); /* clear and disable both sources */
            outb(NMI_REASON, reason & 0x03);          /* and enable them again */
        } else {
            log_warn("NMI without a reason, at %pS", (void *)regs->rip);
        }
    }
    c->in_nmi--;
}

void mce_init_cpu(void)
{
    uint32_t r[4];
    cpuid(1, 0, r);
    if (!(r[3] & 1u << 7) || !(r[3] & 1u << 14)) /* MCE and MCA */
        return;
    uint64_t cap = rdmsr(MSR_MCG_CAP);
    if (this_cpu()->id == 0)
        banks = cap & MCG_CAP_COUNT;
    if (cap & MCG_CAP_CTL)
        wrmsr(MSR_MCG_CTL, ~0UL);
    for (unsigned i = 0; i < banks; i++) {
        wrmsr(MSR_MC_CTL(i), ~0UL);
        wrmsr(MSR_MC_STATUS(i), 0);
    }
    write_cr4(read_cr4() | CR4_MCE);
}

void mce_handle(struct cpu_user_regs *regs)
{
    bool fatal = false;
    for (unsigned i = 0; i < banks; i++) {
        uint64_t status = rdmsr(MSR_MC_STATUS(i));
        if (!(status & MC_STATUS_VALID))
            continue;
        uint64_t address = status & MC_STATUS_ADDR ? rdmsr(MSR_MC_ADDR(i)) : 0;
        log_error("machine check on CPU %u: bank %u status %lx address %lx", this_cpu()->id, i,
                  status, address);
        if (status & MC_STATUS_UNCORRECTED)
            fatal = true;
        else
            wrmsr(MSR_MC_STATUS(i), 0);
    }
    if (fatal)
        panic("uncorrected machine check, at %pS", (void *)regs->rip);
    wrmsr(MSR_MCG_STATUS, 0);
}
