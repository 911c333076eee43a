/*
 * Hypercalls that stop in the middle and are made again for the rest. A pause or the death of a
 * domain waits until its vCPUs are at the guest's boundary (sched_wait_quiet()), and a batch may be
 * as long as its guest likes: so the loops over batches look whether they are waited for.
 *
 * The guest's registers carry the progress, as only they are saved with the guest's own state:
 * whatever the guest runs before it is back at the instruction does no harm.
 */
#include "hvm/hvm.h"
#include "hypercall/table.h"

#define SYSCALL_LENGTH 2 /* 0f 05 */
#define VMCALL_LENGTH  3 /* 0f 01 c1 or d9 */

bool vcpu_wanted(void)
{
    const struct vcpu *v = current_vcpu();
    preempt_point();
    return unlikely(READ_ONCE(v->sched.blockers) || v->domain->kill_pending);
}

long hypercall_again(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct vcpu *v = current_vcpu();
    struct cpu_user_regs *r = &v->stack->regs;
    if (v->again.in_multicall) {
        v->again.set = true;
        v->again.args[0] = a;
        v->again.args[1] = b;
        v->again.args[2] = c;
        v->again.args[3] = d;
        return 0;
    }
    r->rip -= v->domain->is_hvm ? VMCALL_LENGTH : SYSCALL_LENGTH;
    r->rdi = a;
    r->rsi = b;
    r->rdx = c;
    r->r10 = d;
    return nr;
}
