/*
 * Exceptions and interrupts once entry.S has saved the registers.
 *
 * From a guest: interrupts go to irq/, exceptions to pv/ by cpu_guest_exception, NMI and machine
 * check are the machine's. In the hypervisor: instructions that may fault have a line in the
 * exception table (EXTABLE in cpu/asm.h and cpu/entry.h); any other exception is our bug.
 *
 * An interrupt can only come where interrupts are let in, which is where this CPU holds no lock
 * and no borrowed pointer: so each one is also a quiescent state (cpu/grace.c).
 */
#include "console/console.h"
#include "cpu/entry.h"
#include "cpu/internal.h"
#include "lib/string.h"

#define PIN(field)                                                                                 \
    _Static_assert(offsetof(struct cpu_user_regs, field) == REGS_##field, "cpu/entry.h: " #field)
PIN(r15);
PIN(rbp);
PIN(rax);
PIN(rdi);
PIN(rip);
PIN(cs);
PIN(rflags);
PIN(rsp);
PIN(ss);
PIN(es);
#undef PIN
_Static_assert(offsetof(struct cpu_user_regs, error_code) == REGS_error, "cpu/entry.h");
_Static_assert(offsetof(struct cpu_user_regs, entry_vector) == REGS_vector, "cpu/entry.h");
_Static_assert(offsetof(struct stack_top, cpu) == STACK_TOP_cpu, "cpu/entry.h");
_Static_assert(offsetof(struct stack_top, vcpu) == STACK_TOP_vcpu, "cpu/entry.h");
_Static_assert(sizeof(struct stack_top) == STACK_TOP_size, "cpu/entry.h");
_Static_assert(STACK_SIZE == STACK_SIZE_ASM, "cpu/entry.h");

/* Entry points called from entry.S. */
void cpu_entry_from_guest(struct cpu_user_regs *regs);
void cpu_entry_from_hypervisor(struct cpu_user_regs *regs);
struct cpu_user_regs *cpu_entry_ist(struct cpu_user_regs *regs);
void cpu_iret_faulted(struct cpu_user_regs *regs);
void iret_fixup(void);

void (*cpu_guest_exception)(struct cpu_user_regs *regs) __ro_after_init;
void (*cpu_bad_return)(struct cpu_user_regs *regs, unsigned vector,
                       uint32_t error_code) __ro_after_init;

struct extable_entry {
    uint64_t from, to;
};
extern const struct extable_entry __extable_start[], __extable_end[];

/* A few dozen lines, and faults are rare. */
uint64_t extable_find(uint64_t rip)
{
    for (const struct extable_entry *e = __extable_start; e < __extable_end; e++)
        if (e->from == rip)
            return e->to;
    return 0;
}

static const char *exception_name(unsigned vector)
{
    static const char *const names[] = {"divide error",
                                        "debug",
                                        "NMI",
                                        "breakpoint",
                                        "overflow",
                                        "bound",
                                        "invalid opcode",
                                        "device not available",
                                        "double fault",
                                        "9",
                                        "invalid TSS",
                                        "segment not present",
                                        "stack",
                                        "general protection",
                                        "page fault",
                                        "15",
                                        "x87",
                                        "alignment check",
                                        "machine check",
                                        "SIMD",
                                        "virtualization",
                                        "control protection"};
    return vector < ARRAY_SIZE(names) ? names[vector] : "exception";
}

static void __noreturn fatal(const struct cpu_user_regs *regs)
{
    uint64_t cr2 = read_cr2();
    console_force_sync();
    log_error("%s in the hypervisor, error code %x, address %lx",
              exception_name(regs->entry_vector), regs->error_code, cr2);
    regs_dump(regs);
    stack_trace(regs);
    panic("%s at %pS", exception_name(regs->entry_vector), (void *)regs->rip);
}

void cpu_entry_from_guest(struct cpu_user_regs *regs)
{
    switch (regs->entry_vector) {
    case X86_NMI:
        nmi_handle(regs);
        break;
    case X86_MC:
        mce_handle(regs);
        break;
    default:
        if (regs->entry_vector >= 32) {
            grace_quiescent(this_cpu());
            cpu_handle_irq(regs, regs->entry_vector);
        } else if (cpu_guest_exception) {
            cpu_guest_exception(regs);
        } else {
            panic("a guest's exception before there are guests");
        }
    }
}

static bool fixed_up(struct cpu_user_regs *regs)
{
    uint64_t to = extable_find(regs->rip);
    if (!to)
        return false;
    if (to == (uint64_t)iret_fixup) { /* where cpu_iret_faulted() looks; not part of this frame */
        stack_top()->regs.entry_vector = regs->entry_vector;
        stack_top()->regs.error_code = regs->error_code;
    }
    regs->rip = to;
    return true;
}

void cpu_entry_from_hypervisor(struct cpu_user_regs *regs)
{
    if (regs->entry_vector >= 32) {
        grace_quiescent(this_cpu());
        cpu_handle_irq(regs, regs->entry_vector);
    } else if (!fixed_up(regs)) {
        fatal(regs);
    }
}

/*
 * A guest can have a debug exception raised at our first instruction: a MOV SS whose operand is
 * watched holds it back until after the SYSCALL or INT that follows (APM vol. 2 section 8.5). It is
 * dropped. It may not be kept armed by RFLAGS.TF, which gates and SFMASK clear.
 */
static void debug_in_hypervisor(struct cpu_user_regs *regs)
{
    regs->rflags &= ~RFLAGS_TF;
    write_dr6(DR6_DEFAULT);
}

struct cpu_user_regs *cpu_entry_ist(struct cpu_user_regs *regs)
{
    if (regs->entry_vector == X86_DF)
        fatal(regs);
    if (regs->cs & 3) {
        struct cpu_user_regs *home =
            container_of((uint16_t *)this_cpu()->tss->rsp[0], struct cpu_user_regs, es);
        memcpy(home, regs, offsetof(struct cpu_user_regs, es));
        return home;
    }
    if (regs->entry_vector == X86_NMI)
        nmi_handle(regs);
    else if (regs->entry_vector == X86_MC)
        mce_handle(regs);
    else
        debug_in_hypervisor(regs);
    return NULL;
}

void cpu_iret_faulted(struct cpu_user_regs *regs)
{
    if (!cpu_bad_return)
        panic("IRETQ faulted before there are guests");
    cpu_bad_return(regs, regs->entry_vector, regs->error_code);
}
