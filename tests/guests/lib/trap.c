/*
 * Exceptions as the hypervisor bounces them to us. A trap goes, in this order, to the hook of its
 * vector, to the fixup of its instruction (TRY), to the try_call() in progress; a trap of user
 * mode ends user_run(). What is left is a bug, reported with the registers.
 */
#include "guest.h"
#include <xen/callback.h>

struct fixup {
    uint64_t from, to;
};
extern struct fixup extable[], extable_end[];

static trap_hook_t *hooks[262];
void trap_dispatch(struct regs *regs);

#define ENTRY(n) extern char trap_entry_##n[];
#define ENTRIES(X)                                                                                 \
    X(0)                                                                                           \
    X(1) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(16) X(17) X(18) X(19)
ENTRIES(ENTRY)

static struct trap_info table[32 + SOFT_VECTORS];

void trap_set_hook(unsigned vector, trap_hook_t *hook)
{
    hooks[vector] = hook;
}

void trap_forget(void)
{
    memset(&this_cpu()->trap, 0, sizeof(struct trap));
}

static void record(struct cpu *cpu, const struct regs *regs)
{
    struct vcpu_info *info = vcpu_info(cpu->id);

    cpu->trap.count++;
    cpu->trap.vector = (unsigned)regs->vector;
    cpu->trap.error = regs->error;
    cpu->trap.regs = *regs;
    cpu->trap.cr2 = regs->vector == T_PF && info ? info->arch.cr2 : 0;
}

static _Noreturn void unexpected(struct cpu *cpu, const struct regs *r)
{
    print("FAIL vCPU %u: unexpected trap %lu error 0x%lx at 0x%lx cs 0x%lx rflags 0x%lx\n", cpu->id,
          r->vector, r->error, r->rip, r->cs, r->rflags);
    print("  rsp 0x%lx ss 0x%lx cr2 0x%lx rax 0x%lx rbx 0x%lx rcx 0x%lx rdx 0x%lx\n", r->rsp, r->ss,
          vcpu_info(cpu->id) ? vcpu_info(cpu->id)->arch.cr2 : 0, r->rax, r->rbx, r->rcx, r->rdx);
    print("  rsi 0x%lx rdi 0x%lx rbp 0x%lx r8 0x%lx r9 0x%lx r10 0x%lx\n", r->rsi, r->rdi, r->rbp,
          r->r8, r->r9, r->r10);
    checks_failed++;
    test_finish();
}

void trap_dispatch(struct regs *regs)
{
    struct cpu *cpu = this_cpu();

    if (regs->vector == ENTRY_EVENT && !hooks[ENTRY_EVENT]) {
        event_upcall();
        return;
    }
    if (hooks[regs->vector] && hooks[regs->vector](regs))
        return;
    if (cpu->in_user && (regs->cs & 3) == 3) {
        cpu->in_user = false;
        record(cpu, regs);
        cpu->user_exit = *regs;
        context_load(&cpu->user_back, 1);
    }
    for (struct fixup *f = extable; f < extable_end; f++)
        if (f->from == regs->rip) {
            record(cpu, regs);
            regs->rip = f->to;
            return;
        }
    if (cpu->catch) {
        record(cpu, regs);
        context_load(cpu->catch, 1);
    }
    unexpected(cpu, regs);
}

bool try_call(void (*fn)(void *), void *arg)
{
    struct cpu *cpu = this_cpu();
    struct context here, *before = cpu->catch;

    trap_forget();
    if (context_save(&here) == 0) {
        cpu->catch = &here;
        fn(arg);
    }
    cpu->catch = before;
    return cpu->trap.count == 0;
}

static void register_callback(unsigned type, void *entry)
{
    struct callback_register cb = {.type = (uint16_t)type, .address = (unsigned long)entry};

    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), 0);
}

void trap_init(void)
{
    unsigned n = 0;

#define ROW(v)                                                                                     \
    table[n++] = (struct trap_info){.vector = (v),                                                 \
                                    .flags = (v) == 3 || (v) == 4 ? 3 : 0,                         \
                                    .cs = FLAT_KERNEL_CS,                                          \
                                    .address = (unsigned long)trap_entry_##v};
    ENTRIES(ROW)
    table[n].address = 0;
    CHECK_EQ(HC(set_trap_table, table), 0);
    register_callback(CALLBACKTYPE_event, entry_event);
    register_callback(CALLBACKTYPE_failsafe, entry_failsafe);
    register_callback(CALLBACKTYPE_syscall, entry_syscall);
}

void trap_fill(struct trap_info *traps)
{
    for (struct trap_info *t = table; t->address; t++)
        traps[t->vector] = *t;
}
