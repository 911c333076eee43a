/*
 * Where a vCPU's time goes: running, runnable, blocked, offline (RUNSTATE_*, xen/vcpu.h).
 *
 * The scheduler tells each change, under the lock of the vCPU's run queue. Others read without it
 * and look again if a change came in between. The guest's own copy is written when the vCPU is on
 * its way back to the guest after such a change, so it is exact whenever the guest itself looks;
 * other vCPUs see it as it was when this one last ran.
 */
#include "domain/internal.h"
#include "domain/shared.h"
#include "lib/string.h"

void runstate_entered(struct sched_entity *e, int state, ns_t now)
{
    struct vcpu *v = e->vcpu;
    struct vcpu_runstate_info *r = &v->runstate;
    if (now > r->state_entry_time) {
        r->time[r->state] += now - r->state_entry_time;
        WRITE_ONCE(r->state_entry_time, now);
    }
    WRITE_ONCE(r->state, state);
    if (state == RUNSTATE_running && !guest_is_null(v->runstate_guest))
        vcpu_add_work(v, VCPU_WORK_AREAS);
}

void runstate_get(struct vcpu *v, struct vcpu_runstate_info *out)
{
    const struct vcpu_runstate_info *r = &v->runstate;
    ns_t now;
    do {
        out->state_entry_time = READ_ONCE(r->state_entry_time);
        barrier();
        out->state = READ_ONCE(r->state);
        for (unsigned i = 0; i < ARRAY_SIZE(out->time); i++)
            out->time[i] = READ_ONCE(r->time[i]);
        now = time_now();
        barrier();
    } while (out->state_entry_time != READ_ONCE(r->state_entry_time));
    if (now > out->state_entry_time)
        out->time[out->state] += now - out->state_entry_time;
}

static int write_narrow(guest_ptr_t to, const struct vcpu_runstate_info *r)
{
    struct runstate_narrow n = {.state = (uint32_t)r->state,
                                .state_entry_time = r->state_entry_time};
    memcpy(n.time, r->time, sizeof(n.time));
    return copy_to_guest(to, &n, sizeof(n));
}

/* With the flag set around it, a guest that asked for that knows a copy in the making. */
int runstate_write(struct vcpu *v)
{
    struct vcpu_runstate_info r = v->runstate;
    guest_ptr_t to = v->runstate_guest;
    guest_ptr_t time = guest_offset(to, offsetof(struct vcpu_runstate_info, state_entry_time));
    if (unlikely(shared_is_narrow(v->domain)))
        return write_narrow(to, &r); /* such guests have no way to ask for the flag */
    if (!(READ_ONCE(v->domain->vm_assist) & 1u << VMASST_TYPE_runstate_update_flag))
        return copy_to_guest(to, &r, sizeof(r));

    uint64_t entry = r.state_entry_time;
    r.state_entry_time |= XEN_RUNSTATE_UPDATE;
    int rc = copy_to_guest(time, &r.state_entry_time, sizeof(entry));
    if (!rc)
        rc = copy_to_guest(to, &r, sizeof(r));
    if (!rc)
        rc = copy_to_guest(time, &entry, sizeof(entry));
    return rc;
}
