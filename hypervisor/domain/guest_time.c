/*
 * Time as guests see it: struct vcpu_time_info (the TSC scaled to nanoseconds), the wall clock in
 * shared_info, timers that raise VIRQ_TIMER.
 *
 * The scale is the hypervisor's own, so guest and hypervisor agree to the nanosecond on every CPU;
 * a vCPU's copy is written again only when the scale has changed since. Readers use the version:
 * odd while it is written, another one afterwards (xen/xen.h). Its second home, at a guest virtual
 * address, is written on the way back to the guest.
 *
 * Timers are set on the CPU where the vCPU runs. Their callbacks take no lock of ours.
 */
#include "domain/internal.h"
#include "domain/shared.h"
#include "event/event.h"
#include "hypercall/table.h"
#include "lib/string.h"
#include "pv/pv.h"

#define PERIOD_MIN MILLISECONDS(1)
#define TIMER_MOST SECONDS(86400UL * 365) /* from now: further ones cannot be told from never */

/* --- system time --- */

static void time_fill(struct vcpu_time_info *t, uint32_t version)
{
    const struct tsc_scale *s = time_scale();
    memset(t, 0, sizeof(*t));
    t->version = version;
    t->tsc_timestamp = s->base_tsc;
    t->system_time = s->base_ns;
    t->tsc_to_system_mul = s->mul;
    t->tsc_shift = s->shift;
    t->flags = time_tsc_stable() ? XEN_PVCLOCK_TSC_STABLE_BIT : 0;
}

void guest_time_update(struct vcpu *v)
{
    struct vcpu_time_info t, *to = &v->info->time;
    v->time_version += 2;
    time_fill(&t, v->time_version | 1);
    v->time_base = t.tsc_timestamp;
    v->time_area_stale = true;
    if (!guest_is_null(v->time_guest))
        vcpu_add_work(v, VCPU_WORK_AREAS);
    if (vcpu_info_is_dummy(v->info))
        return;
    WRITE_ONCE(to->version, t.version);
    barrier();
    memcpy(to, &t, sizeof(t));
    barrier();
    WRITE_ONCE(to->version, v->time_version);
}

static int time_write_area(struct vcpu *v)
{
    struct vcpu_time_info t;
    guest_ptr_t to = v->time_guest;
    time_fill(&t, v->time_version | 1);
    int rc = copy_to_guest(to, &t.version, sizeof(t.version));
    if (!rc)
        rc = copy_to_guest(to, &t, sizeof(t));
    if (!rc)
        rc = copy_to_guest(to, &v->time_version, sizeof(v->time_version));
    v->time_area_stale = false;
    return rc;
}

int guest_areas_write(struct vcpu *v, unsigned which)
{
    int rc = 0;
    /* The kernel's addresses are not in user mode's tables. */
    bool user = !v->domain->is_hvm && !v->pv->kernel_mode;
    if (user)
        pv_switch_mode(v, true);
    if ((which & AREA_RUNSTATE) && !guest_is_null(v->runstate_guest))
        rc = runstate_write(v);
    if ((which & AREA_TIME) && v->time_area_stale && !guest_is_null(v->time_guest)) {
        int time_rc = time_write_area(v);
        rc = rc ? rc : time_rc;
    }
    if (user)
        pv_switch_mode(v, false);
    return rc;
}

/* --- wall clock --- */

void guest_wallclock_update(struct domain *d)
{
    uint64_t seconds;
    uint32_t nanoseconds;
    if (!d->shared)
        return;
    spin_lock(&d->lock);
    struct shared_wallclock s = shared_wallclock(d);
    wallclock_get(&seconds, &nanoseconds);
    seconds += (uint64_t)d->time_offset;
    uint32_t version = (READ_ONCE(*s.version) + 1) | 1;
    WRITE_ONCE(*s.version, version);
    barrier();
    WRITE_ONCE(*s.sec, (uint32_t)seconds);
    WRITE_ONCE(*s.sec_hi, (uint32_t)(seconds >> 32));
    WRITE_ONCE(*s.nsec, nanoseconds);
    barrier();
    WRITE_ONCE(*s.version, version + 1);
    spin_unlock(&d->lock);
}

void guest_time_rewrite(struct domain *d)
{
    struct vcpu *v;
    guest_wallclock_update(d);
    for_each_vcpu(d, v)
        WRITE_ONCE(v->time_base, 0); /* when it runs next */
    if (d == current_domain())
        guest_time_update(current_vcpu());
}

/* --- timers --- */

static void singleshot_fired(void *vcpu)
{
    event_send_virq(vcpu, VIRQ_TIMER);
}

static void periodic_fired(void *vcpu)
{
    struct vcpu *v = vcpu;
    ns_t period = READ_ONCE(v->period), now = time_now(), next = v->periodic.expires + period;
    if (!period)
        return;
    event_send_virq(v, VIRQ_TIMER);
    timer_set(&v->periodic, next > now ? next : now + period);
}

static void poll_timed_out(void *vcpu)
{
    struct vcpu *v = vcpu;
    sched_unblock(&v->sched, SCHED_POLLING);
}

void vcpu_timers_init(struct vcpu *v)
{
    timer_init(&v->singleshot, singleshot_fired, v, v->sched.cpu);
    timer_init(&v->periodic, periodic_fired, v, v->sched.cpu);
    timer_init(&v->poll, poll_timed_out, v, v->sched.cpu);
}

/*
 * Twice at death: when v runs no more, and after the grace period in which a periodic_fired() that
 * had begun before may have set its timer once more.
 */
void vcpu_stop_timers(struct vcpu *v)
{
    WRITE_ONCE(v->period, 0);
    timer_stop(&v->singleshot);
    timer_stop(&v->periodic);
    timer_stop(&v->poll);
}

void vcpu_timer_set(struct vcpu *v, struct timer *t, ns_t when)
{
    unsigned here = this_cpu()->id;
    when = min(when, time_now() + TIMER_MOST);
    if (v == current_vcpu() && t->cpu != here)
        timer_migrate(t, here);
    timer_set(t, when);
}

int vcpu_set_singleshot(struct vcpu *v, ns_t when, bool only_future)
{
    if (only_future && when < time_now())
        return -XEN_ETIME;
    vcpu_timer_set(v, &v->singleshot, when);
    return 0;
}

int vcpu_set_periodic(struct vcpu *v, ns_t period)
{
    if (period && (period < PERIOD_MIN || period > TIMER_MOST))
        return -XEN_EINVAL;
    WRITE_ONCE(v->period, period);
    if (period)
        vcpu_timer_set(v, &v->periodic, time_now() + period);
    else
        timer_stop(&v->periodic);
    return 0;
}

/* The older way to set the single-shot timer; in the past it fires at once. */
long hc_set_timer_op(uint64_t timeout)
{
    struct vcpu *v = current_vcpu();
    if (timeout == 0) {
        timer_stop(&v->singleshot);
        return 0;
    }
    return vcpu_set_singleshot(v, timeout, false);
}
