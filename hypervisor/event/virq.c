/*
 * Virtual interrupts (VIRQ_*, xen/xen.h). Those of a vCPU have one port per vCPU; global ones have
 * one port in the domain that handles them, domain 0 unless another was set. Bindings change under
 * the table's lock; raising takes none (event.c says why that is safe).
 */
#include "event/internal.h"

#include "lib/bitmap.h"

/* Who handles each global virq; NULL: domain 0. Cleared when the domain dies, under its lock. */
static struct domain *handler[NR_VIRQS];

bool virq_is_global(unsigned virq)
{
    switch (virq) {
    case VIRQ_TIMER:
    case VIRQ_DEBUG:
    case VIRQ_XENOPROF:
    case VIRQ_XENPMU:
        return false;
    default: /* VIRQ_ARCH_0 is VIRQ_MCA; the other ARCH ones have no meaning on x86 */
        return true;
    }
}

/* Where the port of @virq is remembered. */
static struct channel **slot(struct domain *d, unsigned virq, struct vcpu *v)
{
    return virq_is_global(virq) ? &d->event->virq[virq] : &v->event->virq[virq];
}

int event_bind_virq(struct domain *d, unsigned virq, unsigned vcpu, evtchn_port_t *port)
{
    struct vcpu *v = domain_vcpu(d, vcpu);
    struct channel *ch;
    if (virq >= NR_VIRQS || (virq_is_global(virq) && vcpu != 0))
        return -XEN_EINVAL;
    if (!v)
        return -XEN_ENOENT;

    struct channel **s = slot(d, virq, v);
    spin_lock(&d->event->lock);
    int rc = *s ? -XEN_EEXIST : channel_alloc(d, &ch);
    if (!rc) {
        ch->u.virq = virq;
        WRITE_ONCE(ch->vcpu, vcpu);
        WRITE_ONCE(ch->state, CHANNEL_VIRQ);
        __atomic_store_n(s, ch, __ATOMIC_RELEASE);
        *port = ch->port;
    }
    spin_unlock(&d->event->lock);
    return rc;
}

void virq_unbind(struct channel *ch)
{
    /* A global one may have been moved to another vCPU, one of a vCPU's own may not. */
    struct vcpu *v = domain_vcpu(ch->domain, ch->vcpu);
    WRITE_ONCE(*slot(ch->domain, ch->u.virq, v), NULL);
}

bool virq_is_bound(const struct channel *ch)
{
    struct vcpu *v = domain_vcpu(ch->domain, ch->vcpu);
    return v && *slot(ch->domain, ch->u.virq, v) == ch;
}

static void raise(struct channel **s)
{
    struct channel *ch = __atomic_load_n(s, __ATOMIC_ACQUIRE);
    if (ch && READ_ONCE(ch->state) == CHANNEL_VIRQ)
        channel_raise(ch);
}

void event_send_virq(struct vcpu *v, unsigned virq)
{
    if (virq < NR_VIRQS && v->event)
        raise(slot(v->domain, virq, v));
}

void event_send_global_virq(unsigned virq)
{
    if (virq >= NR_VIRQS || !virq_is_global(virq))
        return;
    struct domain *d = READ_ONCE(handler[virq]);
    if (!d)
        d = READ_ONCE(dom0);
    if (d)
        raise(&d->event->virq[virq]);
}

int event_set_global_virq_handler(struct domain *d, unsigned virq)
{
    if (virq >= NR_VIRQS || !virq_is_global(virq))
        return -XEN_EINVAL;
    spin_lock(&d->event->lock);
    bool alive = !d->event->closed;
    if (alive)
        WRITE_ONCE(handler[virq], d);
    spin_unlock(&d->event->lock);
    return alive ? 0 : -XEN_EINVAL;
}

void virq_forget_domain(struct domain *d)
{
    for (unsigned i = 0; i < NR_VIRQS; i++) {
        struct domain *expected = d;
        __atomic_compare_exchange_n(&handler[i], &expected, NULL, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST);
    }
}

void event_console_input(void)
{
    event_send_global_virq(VIRQ_CONSOLE);
}
