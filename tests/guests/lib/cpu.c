/*
 * vCPUs: each has a stack of STACK_SIZE, aligned to it, with its struct cpu at the bottom.
 * A second vCPU is initialised once with flat segments, our page tables, traps and callbacks,
 * then brought up anew for each cpu_run().
 */
#include "guest.h"

uint8_t cpu0_stack[STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
static uint8_t stacks[MAX_CPUS - 1][STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
static struct vcpu_guest_context context;
static bool initialised[MAX_CPUS];
void cpu_start(void);
_Noreturn void cpu_main(void);

struct cpu *cpu_get(unsigned id)
{
    return id == 0 ? (struct cpu *)cpu0_stack : (struct cpu *)stacks[id - 1];
}

unsigned cpu_count(void)
{
    unsigned n = 0;

    while (n < MAX_CPUS && HC(vcpu_op, VCPUOP_is_up, n, 0) >= 0)
        n++;
    return n;
}

/* A vCPU runs its entry, goes down, and when brought up again goes on behind that. */
_Noreturn void cpu_main(void)
{
    struct cpu *cpu = this_cpu();

    for (;;) {
        cpu->running = true;
        cpu->entry(cpu->entry_arg);
        cpu->done = true;
        while (HC(vcpu_op, VCPUOP_down, cpu->id, 0))
            cpu_relax();
    }
}

struct vcpu_guest_context *cpu_context(unsigned id)
{
    uint64_t top = (uint64_t)cpu_get(id) + STACK_SIZE;

    memset(&context, 0, sizeof(context));
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rip = (uint64_t)cpu_start;
    context.user_regs.rsp = top;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.user_regs.rflags = 0x200;
    context.kernel_ss = FLAT_KERNEL_SS;
    context.kernel_sp = top - STACK_SIZE / 2;
    context.ctrlreg[3] = xen_pfn_to_cr3(cr3_mfn());
    context.event_callback_eip = (uint64_t)entry_event;
    context.failsafe_callback_eip = (uint64_t)entry_failsafe;
    context.syscall_callback_eip = (uint64_t)entry_syscall;
    trap_fill(context.trap_ctxt);
    return &context;
}

long cpu_initialise(unsigned id)
{
    cpu_get(id)->id = id;
    return HC(vcpu_op, VCPUOP_initialise, id, cpu_context(id));
}

long cpu_run(unsigned id, void (*entry)(void *), void *arg)
{
    struct cpu *cpu = cpu_get(id);
    long ret;

    if (!initialised[id]) {
        ret = cpu_initialise(id);
        if (ret)
            return ret;
        initialised[id] = true;
    }
    cpu->entry = entry;
    cpu->entry_arg = arg;
    cpu->running = cpu->done = false;
    return HC(vcpu_op, VCPUOP_up, id, 0);
}

void cpu_wait(unsigned id)
{
    while (!cpu_get(id)->done || HC(vcpu_op, VCPUOP_is_up, id, 0) == 1)
        HC(sched_op, SCHEDOP_yield, 0);
}
