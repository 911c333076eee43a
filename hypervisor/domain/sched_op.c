/*
 * sched_op (xen/sched.h): a guest yields, waits, polls ports, shuts down, minds its watchdog.
 *
 * Blocking here only marks the vCPU; it stops at its exit (vcpu_leave), with its registers, the
 * result of the hypercall among them, as the guest will find them.
 */
#include "console/console.h"
#include "hypercall/permission.h"
#include "domain/internal.h"
#include "event/event.h"
#include "hypercall/table.h"

#define POLL_MAX_PORTS 128

/* The ABI: unmask, look for pending events, block; an event in between is not missed. */
static long op_block(void)
{
    struct vcpu *v = current_vcpu();
    if (!vcpu_info_is_dummy(v->info))
        WRITE_ONCE(v->info->evtchn_upcall_mask, 0);
    vcpu_block();
    return 0;
}

static long op_poll(guest_ptr_t arg)
{
    struct vcpu *v = current_vcpu();
    struct sched_poll poll;
    evtchn_port_t ports[POLL_MAX_PORTS] __uninitialized; /* clearing it would cost more than all */
    int rc = copy_from_guest(&poll, arg, sizeof(poll));
    if (rc)
        return rc;
    if (poll.nr_ports > POLL_MAX_PORTS)
        return -XEN_EINVAL;
    rc = copy_from_guest(ports, guest_handle(poll.ports), poll.nr_ports * sizeof(ports[0]));
    if (rc)
        return rc;

    /* Before we look: who sends from now on sees that we wait, and for what. */
    WRITE_ONCE(v->poll_event, false);
    WRITE_ONCE(v->poll_port, poll.nr_ports == 1 ? ports[0] : 0);
    sched_block(&v->sched, SCHED_POLLING);
    rc = event_any_pending(v->domain, ports, poll.nr_ports);
    if (rc || event_pending(v)) {
        sched_unblock(&v->sched, SCHED_POLLING);
        return rc < 0 ? rc : 0;
    }
    if (poll.timeout)
        vcpu_timer_set(v, &v->poll, poll.timeout);
    else
        timer_stop(&v->poll);
    return 0;
}

static bool reason_ok(const struct domain *d, unsigned reason)
{
    if (d->privileged) /* the machine can neither sleep this way nor begin again half */
        return reason != SHUTDOWN_suspend && reason < SHUTDOWN_soft_reset;
    return reason <= SHUTDOWN_MAX;
}

static int shutdown_decode(const struct domain *d, guest_ptr_t arg, struct sched_shutdown *s)
{
    int rc = copy_from_guest(s, arg, sizeof(*s));
    if (rc)
        return rc;
    return reason_ok(d, s->reason) ? 0 : -XEN_EINVAL;
}

static long op_shutdown(guest_ptr_t arg)
{
    struct domain *d = current_domain();
    struct sched_shutdown s;
    int rc = shutdown_decode(d, arg, &s);
    if (rc)
        return rc;
    log_guest(d->id, LOG_INFO, "shuts down, code %u", s.reason);
    domain_shutdown(d, s.reason);
    return 0;
}

static long op_shutdown_code(guest_ptr_t arg)
{
    struct domain *d = current_domain();
    struct sched_shutdown s;
    int rc = shutdown_decode(d, arg, &s);
    if (rc)
        return rc;
    spin_lock(&d->lock);
    d->shutdown_code = s.reason;
    d->shutdown_code_latched = true;
    spin_unlock(&d->lock);
    return 0;
}

static long op_remote_shutdown(guest_ptr_t arg)
{
    struct sched_remote_shutdown r;
    int rc = copy_from_guest(&r, arg, sizeof(r));
    if (rc)
        return rc;
    struct domain *d = domain_find_or_self(r.domain_id);
    if (!d)
        return -XEN_ESRCH;
    rc = permission_check(current_domain(), __HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, d);
    if (rc)
        return rc;
    if (!reason_ok(d, r.reason))
        return -XEN_EINVAL;
    if (!domain_get(d))
        return -XEN_ESRCH;
    domain_shutdown(d, r.reason);
    domain_put(d);
    return 0;
}

static long op_watchdog(guest_ptr_t arg)
{
    struct sched_watchdog w;
    int rc = copy_from_guest(&w, arg, sizeof(w));
    return rc ? rc : domain_watchdog(current_domain(), w.id, w.timeout);
}

/* Domain 0 stays on one CPU for a firmware call, then goes where it could before. */
static long op_pin_override(guest_ptr_t arg)
{
    struct vcpu *v = current_vcpu();
    struct sched_pin_override pin;
    struct cpu_mask hard = {0};
    if (!v->domain->privileged)
        return -XEN_EPERM;
    int rc = copy_from_guest(&pin, arg, sizeof(pin));
    if (rc)
        return rc;
    if (pin.pcpu < 0) {
        if (!v->pinned)
            return -XEN_EINVAL;
        hard = v->hard_before;
    } else {
        if (v->pinned)
            return -XEN_EBUSY;
        if (pin.pcpu >= MAX_CPUS)
            return -XEN_EINVAL;
        v->hard_before = v->sched.hard;
        bit_set(hard.bits, pin.pcpu);
    }
    struct cpu_mask soft = v->sched.soft;
    rc = sched_set_affinity(&v->sched, &hard, &soft);
    if (!rc)
        v->pinned = pin.pcpu >= 0;
    return rc;
}

long hc_sched_op(uint64_t cmd, uint64_t arg)
{
    guest_ptr_t p = guest_ptr(arg);
    switch (cmd) {
    case SCHEDOP_yield:
        sched_yield();
        return 0;
    case SCHEDOP_block:
        return op_block();
    case SCHEDOP_shutdown:
        return op_shutdown(p);
    case SCHEDOP_poll:
        return op_poll(p);
    case SCHEDOP_remote_shutdown:
        return op_remote_shutdown(p);
    case SCHEDOP_shutdown_code:
        return op_shutdown_code(p);
    case SCHEDOP_watchdog:
        return op_watchdog(p);
    case SCHEDOP_pin_override:
        return op_pin_override(p);
    default:
        return -XEN_ENOSYS;
    }
}
