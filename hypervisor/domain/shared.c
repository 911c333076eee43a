/*
 * The two layouts of what a domain shares with the hypervisor: that which no short path needs, and
 * going from one to the other.
 */
#include "domain/shared.h"

#include "domain/internal.h"
#include "lib/string.h"

#define SAME(type, member)                                                                         \
    _Static_assert(offsetof(struct type, member) == offsetof(struct type##_x86_32, member),        \
                   "at the same place in both layouts")

_Static_assert(sizeof(struct vcpu_info) == 64 && sizeof(struct vcpu_info_x86_32) == 64, "ABI");
SAME(vcpu_info, evtchn_upcall_pending);
SAME(vcpu_info, evtchn_upcall_mask);
SAME(vcpu_info, time);
_Static_assert(offsetof(struct vcpu_info, evtchn_pending_sel) == 8, "ABI");
_Static_assert(offsetof(struct vcpu_info_x86_32, evtchn_pending_sel) == 4, "ABI");
_Static_assert(sizeof(struct vcpu_time_info_x86_32) == sizeof(struct vcpu_time_info), "ABI");
SAME(vcpu_time_info, tsc_timestamp);
SAME(vcpu_time_info, system_time);
SAME(vcpu_time_info, tsc_to_system_mul);
SAME(vcpu_time_info, tsc_shift);
SAME(vcpu_time_info, flags);
SAME(shared_info, vcpu_info);
SAME(shared_info, evtchn_pending);
_Static_assert(offsetof(struct shared_info, evtchn_pending) == 2048, "ABI");
_Static_assert(offsetof(struct shared_info, evtchn_mask) == 2560, "ABI");
_Static_assert(offsetof(struct shared_info_x86_32, evtchn_mask) == 2176, "ABI");
_Static_assert(offsetof(struct shared_info, wc_version) == 3072, "ABI");
_Static_assert(offsetof(struct shared_info_x86_32, wc_version) == 2304, "ABI");
_Static_assert(offsetof(struct shared_info_x86_32, arch.wc_sec_hi) == 2340, "ABI");
_Static_assert(2048 + WIDE_PORTS / 8 == 2560 && 2048 + NARROW_PORTS / 8 == 2176, "mask behind");

struct shared_wallclock shared_wallclock(const struct domain *d)
{
    struct shared_info *s = d->shared;
    struct shared_info_x86_32 *n = (struct shared_info_x86_32 *)s;
    return shared_is_narrow(d)
               ? (struct shared_wallclock){&n->wc_version, &n->wc_sec, &n->wc_nsec,
                                           &n->arch.wc_sec_hi}
               : (struct shared_wallclock){&s->wc_version, &s->wc_sec, &s->wc_nsec, &s->wc_sec_hi};
}

_Static_assert(sizeof(struct runstate_narrow) == 44, "ABI");

/* What the vCPU has not taken notice of by the one selector is in the other. */
static void move_selector(struct vcpu *v)
{
    struct vcpu_info *info = READ_ONCE(v->info);
    if (vcpu_info_is_dummy(info))
        return;
    uint64_t wide = __atomic_exchange_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    uint32_t narrow =
        __atomic_exchange_n(&vcpu_info_narrow(info)->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    if (!wide && !narrow)
        return;
    shared_select_all(v->domain, info);
    WRITE_ONCE(info->evtchn_upcall_pending, 1);
    vcpu_kick(v);
}

void shared_set_narrow(struct domain *d, bool narrow)
{
    struct vcpu *v;
    spin_lock(&d->lock);
    bool changed = shared_is_narrow(d) != narrow;
    if (changed) {
        __atomic_store_n(&d->ports_2l, narrow ? NARROW_PORTS : WIDE_PORTS, __ATOMIC_SEQ_CST);
        if (!narrow) /* the mask and the wall clock were there */
            memset(shared_bits(d) + NARROW_PORTS / 64, 0, (WIDE_PORTS - NARROW_PORTS) / 8);
        for_each_vcpu(d, v)
            move_selector(v);
    }
    spin_unlock(&d->lock);
    if (changed)
        guest_wallclock_update(d);
}
