/*
 * The hypercall event_channel_op (xen/event_channel.h): arguments in, permission, the operation,
 * results out. When the results cannot be told, a port just made is closed again.
 */
#include "event/internal.h"

#include "hypercall/permission.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"

#include <xen/event_channel.h>

/* Copies one member of the caller's structure out. */
#define PUT(arg, s, member)                                                                        \
    copy_to_guest(guest_offset(arg, offsetof(__typeof__(s), member)), &(s).member,                 \
                  sizeof((s).member))

/* @copied: what telling the caller its new @port came to. */
static long port_made(struct domain *d, evtchn_port_t port, int copied)
{
    if (copied && event_close(d, port))
        return -XEN_EINVAL; /* another vCPU has closed it already */
    return copied;
}

static int permitted(unsigned op, const struct domain *d)
{
    return permission_check(current_domain(), __HYPERVISOR_event_channel_op, op, d);
}

static long op_alloc_unbound(guest_ptr_t arg)
{
    struct evtchn_alloc_unbound a;
    int rc = copy_from_guest(&a, arg, sizeof(a));
    if (rc)
        return rc;
    struct domain *d = domain_find_or_self(a.dom);
    if (!d)
        return -XEN_ESRCH;
    rc = permitted(EVTCHNOP_alloc_unbound, d);
    if (rc)
        return rc;
    if (a.remote_dom == DOMID_SELF)
        a.remote_dom = current_domain()->id;
    rc = event_alloc_unbound(d, a.remote_dom, &a.port);
    return rc ? rc : port_made(d, a.port, PUT(arg, a, port));
}

static long op_bind_interdomain(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_bind_interdomain b;
    int rc = copy_from_guest(&b, arg, sizeof(b));
    if (!rc)
        rc = event_bind_interdomain(d, b.remote_dom, b.remote_port, &b.local_port);
    return rc ? rc : port_made(d, b.local_port, PUT(arg, b, local_port));
}

static long op_bind_virq(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_bind_virq b;
    int rc = copy_from_guest(&b, arg, sizeof(b));
    if (!rc)
        rc = event_bind_virq(d, b.virq, b.vcpu, &b.port);
    return rc ? rc : port_made(d, b.port, PUT(arg, b, port));
}

static long op_bind_ipi(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_bind_ipi b;
    int rc = copy_from_guest(&b, arg, sizeof(b));
    if (!rc)
        rc = event_bind_ipi(d, b.vcpu, &b.port);
    return rc ? rc : port_made(d, b.port, PUT(arg, b, port));
}

static long op_bind_pirq(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_bind_pirq b;
    int rc = copy_from_guest(&b, arg, sizeof(b));
    if (!rc && (b.flags & ~BIND_PIRQ__WILL_SHARE))
        rc = -XEN_EINVAL;
    if (!rc)
        rc = event_bind_pirq(d, b.pirq, &b.port);
    return rc ? rc : port_made(d, b.port, PUT(arg, b, port));
}

static void describe(const struct channel *ch, struct evtchn_status *s)
{
    s->vcpu = ch->vcpu;
    switch (ch->state) {
    case CHANNEL_UNBOUND:
        s->status = EVTCHNSTAT_unbound;
        s->u.unbound.dom = ch->u.remote;
        break;
    case CHANNEL_INTERDOMAIN:
        s->status = EVTCHNSTAT_interdomain;
        s->u.interdomain.dom = ch->peer->domain->id;
        s->u.interdomain.port = ch->peer->port;
        break;
    case CHANNEL_PIRQ:
        s->status = EVTCHNSTAT_pirq;
        s->u.pirq = ch->u.pirq;
        break;
    case CHANNEL_VIRQ:
        s->status = EVTCHNSTAT_virq;
        s->u.virq = ch->u.virq;
        break;
    case CHANNEL_IPI:
        s->status = EVTCHNSTAT_ipi;
        break;
    default:
        s->status = EVTCHNSTAT_closed;
    }
}

static long op_status(guest_ptr_t arg)
{
    struct evtchn_status in, out = {0};
    int rc = copy_from_guest(&in, arg, sizeof(in));
    if (rc)
        return rc;
    struct domain *d = domain_find_or_self(in.dom);
    if (!d)
        return -XEN_ESRCH;
    rc = permitted(EVTCHNOP_status, d);
    if (rc)
        return rc;
    const struct channel *ch = channel_at(d->event, in.port);
    if (!ch)
        return -XEN_EINVAL;
    out.dom = in.dom;
    out.port = in.port;
    spin_lock(&d->event->lock);
    describe(ch, &out);
    spin_unlock(&d->event->lock);
    return copy_to_guest(arg, &out, sizeof(out));
}

static long op_unmask(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_unmask u;
    int rc = copy_from_guest(&u, arg, sizeof(u));
    if (rc)
        return rc;
    struct channel *ch = channel_at(d->event, u.port);
    if (!ch || !channel_in_use(ch))
        return -XEN_EINVAL;
    channel_unmask(ch);
    return 0;
}

/*
 * The header promises the way back to the 2-level ABI only to a domain that resets itself.
 * Another's ports go only while it is held still by its controller, so that none comes back
 * meanwhile.
 */
static long op_reset(struct domain *caller, guest_ptr_t arg)
{
    struct evtchn_reset r;
    int rc = copy_from_guest(&r, arg, sizeof(r));
    if (rc)
        return rc;
    struct domain *d = domain_find_or_self(r.dom);
    if (!d)
        return -XEN_ESRCH;
    rc = permitted(EVTCHNOP_reset, d);
    if (rc)
        return rc;
    if (d != caller && !READ_ONCE(d->controller_pauses))
        return -XEN_EINVAL;
    if (!domain_get(d))
        return -XEN_ESRCH;
    event_close_all(d);
    if (d == caller)
        fifo_destroy(d);
    domain_put(d);
    return 0;
}

static long op_init_control(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_init_control c;
    int rc = copy_from_guest(&c, arg, sizeof(c));
    if (!rc)
        rc = fifo_init_control(d, c.vcpu, gfn(c.control_gfn), c.offset);
    c.link_bits = EVTCHN_FIFO_LINK_BITS;
    return rc ? rc : PUT(arg, c, link_bits);
}

static long op_set_priority(struct domain *d, guest_ptr_t arg)
{
    struct evtchn_set_priority p;
    int rc = copy_from_guest(&p, arg, sizeof(p));
    if (rc)
        return rc;
    struct channel *ch = channel_at(d->event, p.port);
    if (!READ_ONCE(d->event->fifo))
        return -XEN_ENOSYS;
    if (p.priority > EVTCHN_FIFO_PRIORITY_MIN || !ch)
        return -XEN_EINVAL;
    spin_lock(&d->event->lock);
    rc = channel_in_use(ch) ? 0 : -XEN_EINVAL;
    if (!rc)
        WRITE_ONCE(ch->priority, p.priority);
    spin_unlock(&d->event->lock);
    return rc;
}

static __noinline long others(struct domain *d, uint64_t cmd, guest_ptr_t arg)
{
    union {
        struct evtchn_close close;
        struct evtchn_bind_vcpu bind_vcpu;
        struct evtchn_expand_array expand;
    } a;
    int rc;

    switch (cmd) {
    case EVTCHNOP_unmask:
        return op_unmask(d, arg);
    case EVTCHNOP_bind_interdomain:
        return op_bind_interdomain(d, arg);
    case EVTCHNOP_bind_virq:
        return op_bind_virq(d, arg);
    case EVTCHNOP_bind_pirq:
        return op_bind_pirq(d, arg);
    case EVTCHNOP_bind_ipi:
        return op_bind_ipi(d, arg);
    case EVTCHNOP_close:
        rc = copy_from_guest(&a.close, arg, sizeof(a.close));
        return rc ? rc : event_close(d, a.close.port);
    case EVTCHNOP_status:
        return op_status(arg);
    case EVTCHNOP_alloc_unbound:
        return op_alloc_unbound(arg);
    case EVTCHNOP_bind_vcpu:
        rc = copy_from_guest(&a.bind_vcpu, arg, sizeof(a.bind_vcpu));
        return rc ? rc : event_bind_vcpu(d, a.bind_vcpu.port, a.bind_vcpu.vcpu);
    case EVTCHNOP_reset:
        return op_reset(d, arg);
    case EVTCHNOP_init_control:
        return op_init_control(d, arg);
    case EVTCHNOP_expand_array:
        rc = copy_from_guest(&a.expand, arg, sizeof(a.expand));
        return rc ? rc : fifo_expand_array(d, gfn(a.expand.array_gfn));
    case EVTCHNOP_set_priority:
        return op_set_priority(d, arg);
    default:
        return -XEN_ENOSYS;
    }
}

/* To send is what guests do all the time: it does not pay for what the others need on the stack. */
long hc_event_channel_op(uint64_t cmd, uint64_t argument)
{
    struct domain *d = current_domain();
    struct evtchn_send send;
    if (cmd != EVTCHNOP_send)
        return others(d, cmd, guest_ptr(argument));
    int rc = copy_from_guest(&send, guest_ptr(argument), sizeof(send));
    return rc ? rc : event_send(d, send.port);
}
