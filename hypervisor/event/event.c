/*
 * Event channels: the table of a domain's ports and what happens to them.
 *
 * Changes of bindings take the table's lock (RANK_EVENT); what concerns two domains takes both
 * through spin_lock_pair(). Sending takes none of them: a channel's peer is one word, read once.
 *
 * Why that is safe: channels are freed with their domain, one grace period after the last
 * reference; a dying domain first closes all its ports (event_domain_relinquish), which clears
 * every peer word that names them, and takes no new ones (table.closed). So a peer word read by a
 * CPU that has not left the hypervisor since names a channel that still exists, and bound channels
 * need no reference to the other domain. A send that read the word just before a close sets a
 * pending bit on a port that is not bound any more: a spurious event, which the ABI tells guests to
 * expect.
 */
#include "event/internal.h"

#include "console/console.h"
#include "domain/shared.h"

#define BUCKETS(ports) (((ports) + PORTS_PER_BUCKET - 1) / PORTS_PER_BUCKET)

/* --- delivery --- */

void vcpu_mark_events(struct vcpu *v)
{
    struct vcpu_info *info = READ_ONCE(v->info);
    if (!__atomic_exchange_n(&info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST))
        vcpu_kick(v);
}

static inline bool is_polling(const struct vcpu *v)
{
    return READ_ONCE(v->sched.blockers) & SCHED_POLLING;
}

static void poller_wake(struct vcpu *v, evtchn_port_t port)
{
    evtchn_port_t waits_for = READ_ONCE(v->poll_port);
    if (!is_polling(v) || (waits_for && waits_for != port))
        return;
    WRITE_ONCE(v->poll_event, true);
    sched_unblock(&v->sched, SCHED_POLLING);
}

/*
 * Whoever polls blocks first (SCHED_POLLING) and then asks event_any_pending(); we set the pending
 * bit first and then look for pollers. So one of the two sees the other.
 */
static void pollers_wake(const struct channel *ch, struct vcpu *v)
{
    struct domain *d = ch->domain;
    if (v && unlikely(is_polling(v)))
        poller_wake(v, ch->port);
    for (unsigned w = 0; w < ARRAY_SIZE(d->event->pollers); w++) {
        uint64_t others = READ_ONCE(d->event->pollers[w]);
        while (unlikely(others)) {
            struct vcpu *o = domain_vcpu(d, w * 64 + __builtin_ctzl(others));
            others &= others - 1;
            if (o)
                poller_wake(o, ch->port);
        }
    }
}

void (*event_consumer)(struct vcpu *v) __ro_after_init;

void channel_raise(struct channel *ch)
{
    struct domain *d = ch->domain;
    struct vcpu *v = domain_vcpu(d, READ_ONCE(ch->vcpu));
    if (unlikely(ch->ours)) {
        event_consumer(v);
        return;
    }
    struct fifo *f = __atomic_load_n(&d->event->fifo, __ATOMIC_ACQUIRE);
    if (f ? fifo_raise(f, ch) : two_level_raise(ch, v))
        pollers_wake(ch, v);
}

void channel_unmask(struct channel *ch)
{
    struct domain *d = ch->domain;
    struct fifo *f = __atomic_load_n(&d->event->fifo, __ATOMIC_ACQUIRE);
    if (f)
        fifo_unmask(f, ch);
    else
        two_level_unmask(ch, domain_vcpu(d, READ_ONCE(ch->vcpu)));
}

bool channel_pending(const struct channel *ch)
{
    const struct fifo *f = __atomic_load_n(&ch->domain->event->fifo, __ATOMIC_ACQUIRE);
    return f ? fifo_pending(f, ch) : two_level_pending(ch);
}

static void channel_clear(struct channel *ch)
{
    struct fifo *f = __atomic_load_n(&ch->domain->event->fifo, __ATOMIC_ACQUIRE);
    if (f)
        fifo_clear(f, ch);
    else
        two_level_clear(ch);
}

int event_send(struct domain *d, evtchn_port_t port)
{
    struct channel *ch = channel_at(d->event, port);
    if (!ch)
        return -XEN_EINVAL;
    struct channel *peer = READ_ONCE(ch->peer);
    if (unlikely(ch->ours))
        return -XEN_EINVAL;
    if (!peer) /* nobody has bound the other end yet: the ABI discards the event */
        return READ_ONCE(ch->state) == CHANNEL_UNBOUND ? 0 : -XEN_EINVAL;
    count(TRACE_event_sends);
    channel_raise(peer);
    return 0;
}

void event_send_ours(struct domain *d, evtchn_port_t port)
{
    struct channel *peer = READ_ONCE(channel_at(d->event, port)->peer);
    if (peer)
        channel_raise(peer);
}

bool event_port_valid(struct domain *d, evtchn_port_t port)
{
    struct channel *ch = channel_at(d->event, port);
    return ch && channel_in_use(ch);
}

bool event_port_pending(struct domain *d, evtchn_port_t port)
{
    struct channel *ch = channel_at(d->event, port);
    return ch && channel_pending(ch);
}

int event_any_pending(struct domain *d, const evtchn_port_t *ports, unsigned n)
{
    struct vcpu *v = current_vcpu();
    for (unsigned i = 0; i < n; i++) {
        struct channel *ch = channel_at(d->event, ports[i]);
        if (!ch)
            return -XEN_EINVAL;
        /* Senders look at the port's own vCPU anyway; at others only when told to. */
        if (v->domain == d && READ_ONCE(ch->vcpu) != v->id && !bit_test(d->event->pollers, v->id))
            atomic_bit_set(d->event->pollers, v->id);
        if (channel_pending(ch))
            return 1;
    }
    return 0;
}

/* --- ports --- */

/* Ports that the table may have by its creation and by the ABI in use. */
static unsigned port_limit(const struct domain *d)
{
    const struct event_table *t = d->event;
    return min(t->limit, t->fifo ? PORTS_FIFO : READ_ONCE(d->ports_2l));
}

static int bucket_add(struct domain *d)
{
    struct event_table *t = d->event;
    struct channel *b = zalloc_array(PORTS_PER_BUCKET, sizeof(*b));
    if (!b)
        return -XEN_ENOMEM;
    for (unsigned i = 0; i < PORTS_PER_BUCKET; i++) {
        b[i].domain = d;
        b[i].port = t->valid + i;
        b[i].priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
    }
    if (t->valid == 0)
        b[0].state = CHANNEL_RESERVED;
    t->bucket[t->valid / PORTS_PER_BUCKET] = b;
    __atomic_store_n(&t->valid, t->valid + PORTS_PER_BUCKET, __ATOMIC_RELEASE);
    __atomic_fetch_add(&d->overhead_pages, 1, __ATOMIC_RELAXED);
    return 0;
}

int channel_alloc(struct domain *d, struct channel **out)
{
    struct event_table *t = d->event;
    if (t->closed)
        return -XEN_EINVAL;
    unsigned limit = port_limit(d);
    unsigned port = bitmap_next_clear(t->used, limit, t->lowest);
    if (port >= limit)
        return -XEN_ENOSPC;
    if (port >= t->valid) {
        int rc = bucket_add(d);
        if (rc)
            return rc;
    }
    bit_set(t->used, port);
    t->lowest = port + 1;
    *out = channel_at(t, port);
    return 0;
}

/* The pending bit goes, so that whoever gets the port next does not start with our event. */
void channel_free(struct event_table *t, struct channel *ch)
{
    WRITE_ONCE(ch->peer, NULL);
    WRITE_ONCE(ch->state, CHANNEL_FREE);
    channel_clear(ch);
    ch->u.virq = 0;
    ch->ours = false;
    WRITE_ONCE(ch->vcpu, 0);
    WRITE_ONCE(ch->priority, EVTCHN_FIFO_PRIORITY_DEFAULT);
    bit_clear(t->used, ch->port);
    t->lowest = min(t->lowest, (unsigned)ch->port);
}

static int alloc_unbound(struct domain *d, unsigned vcpu, domid_t remote, bool ours,
                         evtchn_port_t *port)
{
    struct event_table *t = d->event;
    struct channel *ch;
    spin_lock(&t->lock);
    int rc = channel_alloc(d, &ch);
    if (!rc) {
        ch->u.remote = remote;
        ch->ours = ours;
        WRITE_ONCE(ch->vcpu, vcpu);
        WRITE_ONCE(ch->state, CHANNEL_UNBOUND);
        *port = ch->port;
    }
    spin_unlock(&t->lock);
    return rc;
}

int event_alloc_unbound(struct domain *d, domid_t remote, evtchn_port_t *port)
{
    return alloc_unbound(d, 0, remote, false, port);
}

int event_alloc_ours(struct domain *d, unsigned vcpu, domid_t remote, evtchn_port_t *port)
{
    return alloc_unbound(d, vcpu, remote, true, port);
}

/* --- bindings --- */

int event_bind_interdomain(struct domain *d, domid_t remote, evtchn_port_t remote_port,
                           evtchn_port_t *port)
{
    struct domain *rd = domain_find_or_self(remote);
    if (!rd)
        return -XEN_ESRCH;
    struct channel *local, *other = channel_at(rd->event, remote_port);
    if (!other)
        return -XEN_EINVAL;

    spin_lock_pair(&d->event->lock, &rd->event->lock);
    int rc = -XEN_EINVAL;
    if (other->state == CHANNEL_UNBOUND && other->u.remote == d->id)
        rc = channel_alloc(d, &local);
    if (!rc) {
        local->u.virq = 0;
        WRITE_ONCE(local->state, CHANNEL_INTERDOMAIN);
        WRITE_ONCE(other->state, CHANNEL_INTERDOMAIN);
        WRITE_ONCE(local->peer, other);
        WRITE_ONCE(other->peer, local);
        *port = local->port;
        /* The header: the other end may have sent already, so the local port becomes pending. */
        channel_raise(local);
    }
    spin_unlock_pair(&d->event->lock, &rd->event->lock);
    return rc;
}

int event_bind_ipi(struct domain *d, unsigned vcpu, evtchn_port_t *port)
{
    struct channel *ch;
    if (!domain_vcpu(d, vcpu))
        return -XEN_ENOENT;
    spin_lock(&d->event->lock);
    int rc = channel_alloc(d, &ch);
    if (!rc) {
        WRITE_ONCE(ch->vcpu, vcpu);
        WRITE_ONCE(ch->state, CHANNEL_IPI);
        WRITE_ONCE(ch->peer, ch);
        *port = ch->port;
    }
    spin_unlock(&d->event->lock);
    return rc;
}

int event_bind_pirq(struct domain *d, unsigned pirq, evtchn_port_t *port)
{
    struct event_table *t = d->event;
    struct channel *ch;
    spin_lock(&t->lock);
    int rc = channel_alloc(d, &ch);
    if (!rc) {
        ch->u.pirq = pirq;
        WRITE_ONCE(ch->state, CHANNEL_PIRQ); /* the line may fire at once */
        rc = pirq_attach(d, pirq, ch);
        if (rc)
            channel_free(t, ch);
        else
            *port = ch->port;
    }
    spin_unlock(&t->lock);
    return rc;
}

static int rebind(struct domain *d, struct channel *ch, struct vcpu *v)
{
    switch (ch->state) {
    case CHANNEL_VIRQ:
        if (!virq_is_global(ch->u.virq))
            return -XEN_EINVAL;
        break;
    case CHANNEL_UNBOUND:
    case CHANNEL_INTERDOMAIN:
        break;
    case CHANNEL_PIRQ:
        pirq_affinity(ch, v->sched.cpu);
        break;
    default:
        return -XEN_EINVAL;
    }
    struct vcpu *old = domain_vcpu(d, ch->vcpu);
    if (ch->ours)
        return -XEN_EINVAL;
    WRITE_ONCE(ch->vcpu, v->id);
    /* It may poll for this port, which senders will not look for there any more. */
    if (old && old != v)
        poller_wake(old, ch->port);
    return 0;
}

int event_bind_vcpu(struct domain *d, evtchn_port_t port, unsigned vcpu)
{
    struct vcpu *v = domain_vcpu(d, vcpu);
    struct channel *ch = channel_at(d->event, port);
    if (!v)
        return -XEN_ENOENT;
    if (!ch)
        return -XEN_EINVAL;
    spin_lock(&d->event->lock);
    int rc = rebind(d, ch, v);
    spin_unlock(&d->event->lock);
    return rc;
}

/* --- the end of a port --- */

/* Both ends' tables are locked. */
static int close_locked(struct domain *d, struct channel *ch)
{
    struct channel *peer = ch->peer;
    if (ch->ours && !d->event->closed)
        return -XEN_EINVAL;
    switch (ch->state) {
    case CHANNEL_FREE:
    case CHANNEL_RESERVED:
        return -XEN_EINVAL;
    case CHANNEL_INTERDOMAIN:
        WRITE_ONCE(peer->peer, NULL);
        peer->u.remote = d->id;
        WRITE_ONCE(peer->state, CHANNEL_UNBOUND);
        break;
    case CHANNEL_PIRQ:
        pirq_detach(ch);
        break;
    case CHANNEL_VIRQ:
        virq_unbind(ch);
        break;
    }
    channel_free(d->event, ch);
    return 0;
}

int event_close(struct domain *d, evtchn_port_t port)
{
    struct event_table *t = d->event;
    struct channel *ch = channel_at(t, port);
    if (!ch)
        return -XEN_EINVAL;
    for (;;) {
        /* Which table is the other one is known for sure only under the locks. */
        struct channel *peer = READ_ONCE(ch->peer);
        struct event_table *other = peer ? peer->domain->event : t;
        spin_lock_pair(&t->lock, &other->lock);
        bool same = READ_ONCE(ch->peer) == peer;
        int rc = same ? close_locked(d, ch) : 0;
        spin_unlock_pair(&t->lock, &other->lock);
        if (same)
            return rc;
        spin_poll();
    }
}

void event_free_ours(struct domain *d, evtchn_port_t port)
{
    spin_lock(&d->event->lock);
    channel_at(d->event, port)->ours = false;
    spin_unlock(&d->event->lock);
    if (event_close(d, port))
        return; /* the domain is dying, and all its ports are closed */
}

#define CLOSES_PER_SLICE 128

void event_close_all(struct domain *d)
{
    struct event_table *t = d->event;
    unsigned done = 0;
    for (unsigned port = 1; port < READ_ONCE(t->valid); port++) {
        if (!event_port_valid(d, port))
            continue;
        /* Somebody else may have closed it meanwhile, which is as well. */
        if (event_close(d, port) == 0 && ++done % CLOSES_PER_SLICE == 0)
            preempt_point();
    }
}

/* --- life of a table --- */

int event_domain_init(struct domain *d, unsigned max_port)
{
    struct event_table *t = zalloc(sizeof(*t));
    if (!t)
        return -XEN_ENOMEM;
    spin_init(&t->lock, RANK_EVENT);
    t->limit = max_port < PORTS_FIFO ? max_port + 1 : PORTS_FIFO;
    t->lowest = 1;
    t->bucket = zalloc_array(BUCKETS(t->limit), sizeof(struct channel *));
    t->used = zalloc_array(BITMAP_WORDS(t->limit), sizeof(uint64_t));
    d->event = t;
    if (!t->bucket || !t->used || bucket_add(d)) {
        event_domain_fini(d);
        return -XEN_ENOMEM;
    }
    bit_set(t->used, 0);
    if (d->privileged)
        console_input_hook = event_console_input;
    return 0;
}

void event_domain_relinquish(struct domain *d)
{
    struct event_table *t = d->event;
    spin_lock(&t->lock);
    t->closed = true;
    spin_unlock(&t->lock);
    virq_forget_domain(d);
    event_close_all(d);
    fifo_destroy(d);
}

void event_domain_fini(struct domain *d)
{
    struct event_table *t = d->event;
    if (!t)
        return;
    for (unsigned i = 0; i < t->valid / PORTS_PER_BUCKET; i++) {
        zfree(t->bucket[i]);
        __atomic_fetch_sub(&d->overhead_pages, 1, __ATOMIC_RELAXED);
    }
    zfree(t->bucket);
    zfree(t->used);
    zfree(t);
    d->event = NULL;
}

int event_vcpu_init(struct vcpu *v)
{
    v->event = zalloc(sizeof(*v->event));
    return v->event ? 0 : -XEN_ENOMEM;
}

void event_vcpu_fini(struct vcpu *v)
{
    zfree(v->event);
    v->event = NULL;
}

struct page *event_get_guest_page(struct domain *d, gfn_t g)
{
    struct page *page = domain_get_page(d, g);
    if (page && page_get_type(page, PAGE_WRITABLE)) {
        page_put(page);
        return NULL;
    }
    return page;
}
