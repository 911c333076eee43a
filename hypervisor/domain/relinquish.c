/*
 * The end of a domain: everything that it holds is given back, in an order in which nothing that is
 * given up later can be used by what is still there. vCPUs stop first; then nothing can start
 * anything new: ports are closed, so nobody is told; mappings of others' pages go before its own
 * memory does. What remains are references that others hold (mappings of its pages in domain 0);
 * with the last of these the domain itself is freed (domain.c).
 *
 * One CPU does it, giving way as it goes; others that ask meanwhile wait for it.
 */
#include "console/console.h"
#include "domain/internal.h"
#include "event/event.h"
#include "grant/grant.h"

static void give_way(void)
{
    sched_yield();
    preempt_point();
}

/* For good: what blocks them now is never cleared. */
static void stop_vcpus(struct domain *d)
{
    struct vcpu *v;
    for_each_vcpu(d, v)
        sched_block(&v->sched, SCHED_DYING);
    domain_wait_quiet(d);
    for_each_vcpu(d, v)
        vcpu_stop_timers(v);
    domain_watchdogs_stop(d);
}

int domain_destroy(struct domain *d)
{
    struct vcpu *v;
    int rc;
    if (d->privileged || d->id >= MAX_DOMID)
        return -XEN_EINVAL;

    spin_lock(&d->lock);
    bool first = !d->dying;
    if (first) {
        WRITE_ONCE(d->dying, true);
        domain_pause_locked(d);
    }
    spin_unlock(&d->lock);
    while (!first && !READ_ONCE(d->dead))
        give_way();
    if (!first)
        return 0;

    stop_vcpus(d);
    event_domain_relinquish(d);
    pirq_domain_relinquish(d);
    grant_domain_relinquish(d);
    for_each_vcpu(d, v)
        vcpu_info_release(v);
    while ((rc = ops_of(d)->domain_relinquish(d)) == -XEN_EAGAIN)
        preempt_point();
    if (rc)
        log_error("d%u: its memory cannot be taken back: error %d", d->id, rc);

    WRITE_ONCE(d->dead, true);
    event_send_global_virq(VIRQ_DOM_EXC);
    domain_put(d); /* the table's */
    return rc;
}
