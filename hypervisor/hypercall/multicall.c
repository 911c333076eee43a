/*
 * Several hypercalls in one trap (xen/xen.h, struct multicall_entry). Each entry is copied in once,
 * run, and its result written back; an error of one does not stop the next. One that stops in the
 * middle (again.c) finds its new arguments in its entry.
 */
#include "cpu/cpu.h"
#include "domain/domain.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"

/* Entries run between two chances for others to use this CPU. */
#define ENTRIES_PER_SLICE 32

/*
 * Calls that act on the trap's own register frame, or would nest without bound, make no sense
 * inside a batch.
 */
static bool may_be_batched(uint64_t op)
{
    return op != __HYPERVISOR_multicall && op != __HYPERVISOR_iret;
}

/* From the entry at @list on. */
static long rest(uint64_t list, uint64_t count)
{
    return hypercall_again(__HYPERVISOR_multicall, list, count, 0, 0);
}

long hc_multicall(uint64_t list, uint64_t count)
{
    struct vcpu *v = current_vcpu();
    long (*run)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) =
        v->domain->is_hvm ? hypercall_hvm : hypercall_pv;
    if (count > UINT32_MAX)
        return -XEN_EINVAL;

    for (uint64_t i = 0; i < count; i++) {
        guest_ptr_t at = guest_offset(guest_ptr(list), i * sizeof(struct multicall_entry));
        struct multicall_entry call;
        int rc = copy_from_guest(&call, at, sizeof(call));
        if (rc)
            return rc;

        call.result = -XEN_EINVAL;
        if (may_be_batched(call.op)) {
            v->again.in_multicall = true;
            call.result = run(call.op, call.args[0], call.args[1], call.args[2], call.args[3]);
            v->again.in_multicall = false;
        }
        if (unlikely(v->again.set)) {
            v->again.set = false;
            rc = copy_to_guest(guest_offset(at, offsetof(struct multicall_entry, args)),
                               v->again.args, sizeof(v->again.args));
            return rc ? rc : rest(at.addr, count - i);
        }

        rc = copy_to_guest(guest_offset(at, offsetof(struct multicall_entry, result)), &call.result,
                           sizeof(call.result));
        if (rc)
            return rc;
        if (v->domain->kill_pending)
            return -XEN_EINVAL;
        if (i % ENTRIES_PER_SLICE == ENTRIES_PER_SLICE - 1 && vcpu_wanted() && i + 1 < count)
            return rest(at.addr + sizeof(call), count - i - 1);
    }
    return 0;
}
