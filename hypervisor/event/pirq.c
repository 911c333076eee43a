/*
 * Physical interrupts of a domain: its pirq numbers, the machine's irqs behind them, and the ports
 * on which they arrive.
 *
 * A pirq is free, mapped (names an irq), or bound (the irq fires onto a port). A level line stays
 * masked from the moment it fires until the domain says PHYSDEVOP_eoi; `needs_eoi` in the status
 * and the bit in the page that the domain registered (PHYSDEVOP_pirq_eoi_gmfn) tell it that it
 * must. One domain per line: binding one that another domain has answers -XEN_EBUSY.
 *
 * Lock: RANK_PIRQ for the numbers; the handler takes none, for irq_unbind() waits for it. Entries
 * exist until the domain is freed. Whether a domain may have an irq is for the caller of
 * pirq_map().
 */
#include "event/internal.h"

#include "irq/irq.h"

#include <xen/physdev.h>

#define PIRQS MAX_IRQS /* numbers of a domain that has any: those of the GSIs, then MSIs */

struct pirq {
    struct channel *channel; /* [a] where it arrives; NULL: not bound */
    unsigned irq;            /* [p] */
    bool mapped, is_msi;     /* [p] */
    bool in_service;         /* [a] fired, masked until the domain's EOI */
};

struct pirq_table {
    struct spinlock lock; /* RANK_PIRQ */
    struct pirq *pirq;    /* [a] PIRQS of them, made with the first mapping */
    uint64_t *eoi_map;    /* [p] bits in a page of the guest's, by pirq */
    bool auto_unmask;     /* [p] PHYSDEVOP_eoi unmasks the port too (gmfn_v1) */
};
_Static_assert(PIRQS <= PAGE_SIZE * 8, "one page has a bit for each");

/* NULL when the number is out of range or no pirq was ever mapped. */
static struct pirq *pirq_at(const struct pirq_table *t, unsigned pirq)
{
    struct pirq *all = __atomic_load_n(&t->pirq, __ATOMIC_ACQUIRE);
    return all && pirq < PIRQS ? &all[pirq] : NULL;
}

static unsigned pirq_number(const struct pirq_table *t, const struct pirq *p)
{
    return (unsigned)(p - t->pirq);
}

/* Interrupt context; takes no lock of this file. */
static void pirq_fire(unsigned irq, void *data)
{
    struct pirq *p = data;
    struct channel *ch = READ_ONCE(p->channel);
    if (!ch)
        return;
    if (irq_needs_eoi(irq))
        __atomic_store_n(&p->in_service, true, __ATOMIC_SEQ_CST);
    channel_raise(ch);
}

/* Lock held. The page is the guest's: written, never read back. */
static void eoi_map_update(struct pirq_table *t, const struct pirq *p)
{
    if (!t->eoi_map)
        return;
    if (READ_ONCE(p->channel) && irq_needs_eoi(p->irq))
        atomic_bit_set(t->eoi_map, pirq_number(t, p));
    else
        atomic_bit_clear(t->eoi_map, pirq_number(t, p));
}

/* --- binding: the event lock is held --- */

static int attach_locked(struct pirq_table *t, struct pirq *p, struct channel *ch)
{
    if (!p || !p->mapped)
        return -XEN_EINVAL;
    if (p->channel)
        return -XEN_EEXIST;
    struct vcpu *v = domain_vcpu(ch->domain, ch->vcpu);
    int rc = irq_bind(p->irq, pirq_fire, p, v ? v->sched.cpu : 0);
    if (rc)
        return rc;
    __atomic_store_n(&p->in_service, false, __ATOMIC_RELAXED);
    __atomic_store_n(&p->channel, ch, __ATOMIC_RELEASE);
    eoi_map_update(t, p);
    irq_unmask(p->irq);
    return 0;
}

int pirq_attach(struct domain *d, unsigned pirq, struct channel *ch)
{
    struct pirq_table *t = d->pirq;
    if (!t)
        return -XEN_EINVAL;
    spin_lock(&t->lock);
    int rc = attach_locked(t, pirq_at(t, pirq), ch);
    spin_unlock(&t->lock);
    return rc;
}

/* Lock held. What @ch is bound to; NULL: that was unmapped, and the number may be another port's.
 */
static struct pirq *pirq_of(const struct pirq_table *t, const struct channel *ch)
{
    struct pirq *p = pirq_at(t, ch->u.pirq);
    return p && p->channel == ch ? p : NULL;
}

static void detach_locked(struct pirq_table *t, struct pirq *p)
{
    WRITE_ONCE(p->channel, NULL);
    irq_unbind(p->irq);
    __atomic_store_n(&p->in_service, false, __ATOMIC_RELAXED);
    eoi_map_update(t, p);
}

void pirq_detach(struct channel *ch)
{
    struct pirq_table *t = ch->domain->pirq;
    spin_lock(&t->lock);
    struct pirq *p = pirq_of(t, ch);
    if (p)
        detach_locked(t, p);
    spin_unlock(&t->lock);
}

unsigned pirq_astray(struct domain *d)
{
    struct pirq_table *t = d->pirq;
    unsigned astray = 0;
    if (!t)
        return 0;
    spin_lock(&t->lock);
    for (unsigned i = 0; t->pirq && i < PIRQS; i++) {
        const struct channel *ch = t->pirq[i].channel;
        astray += ch && (ch->domain != d || ch->state != CHANNEL_PIRQ || ch->u.pirq != i);
    }
    spin_unlock(&t->lock);
    return astray;
}

void pirq_affinity(struct channel *ch, unsigned cpu)
{
    struct pirq_table *t = ch->domain->pirq;
    spin_lock(&t->lock);
    struct pirq *p = pirq_of(t, ch);
    if (p)
        irq_set_affinity(p->irq, cpu);
    spin_unlock(&t->lock);
}

/* --- numbers --- */

static int find_irq(const struct pirq_table *t, unsigned irq)
{
    for (unsigned i = 0; i < PIRQS; i++)
        if (t->pirq[i].mapped && t->pirq[i].irq == irq)
            return i;
    return -XEN_ENOENT;
}

/* The first free number from @from on, which leaves those of the GSIs to the GSIs. */
static int find_free(const struct pirq_table *t, unsigned from)
{
    for (unsigned i = from; i < PIRQS; i++)
        if (!t->pirq || !t->pirq[i].mapped)
            return i;
    return -XEN_ENOSPC;
}

int pirq_free_number(struct domain *d)
{
    struct pirq_table *t = d->pirq;
    spin_lock(&t->lock);
    int n = find_free(t, irq_gsi_count);
    spin_unlock(&t->lock);
    return n;
}

static int choose_number(const struct pirq_table *t, unsigned irq, bool is_msi)
{
    if (!is_msi && irq < PIRQS && !t->pirq[irq].mapped)
        return irq;
    return find_free(t, irq_gsi_count);
}

static int map_locked(struct pirq_table *t, int *pirq, unsigned irq, bool is_msi)
{
    int known = find_irq(t, irq);
    if (known >= 0) { /* asking again for what it has is fine, for another number not */
        if (*pirq >= 0 && *pirq != known)
            return -XEN_EBUSY;
        *pirq = known;
        return 0;
    }
    int n = *pirq >= 0 ? *pirq : choose_number(t, irq, is_msi);
    if (n < 0)
        return n;
    if (n >= PIRQS)
        return -XEN_EINVAL;
    struct pirq *p = &t->pirq[n];
    if (p->mapped)
        return -XEN_EBUSY;
    p->irq = irq;
    p->is_msi = is_msi;
    p->mapped = true;
    *pirq = n;
    return 0;
}

int pirq_map(struct domain *d, int *pirq, unsigned irq, bool is_msi)
{
    struct pirq_table *t = d->pirq;
    int rc = 0;
    if (irq >= MAX_IRQS || (!is_msi && irq >= irq_gsi_count))
        return -XEN_EINVAL;
    spin_lock(&t->lock);
    if (!t->pirq) {
        struct pirq *all = zalloc_array(PIRQS, sizeof(*all));
        __atomic_store_n(&t->pirq, all, __ATOMIC_RELEASE);
        rc = all ? 0 : -XEN_ENOMEM;
    }
    if (!rc)
        rc = map_locked(t, pirq, irq, is_msi);
    spin_unlock(&t->lock);
    return rc;
}

/* A port that it is bound to stays, and never fires again. */
static void unmap_locked(struct pirq_table *t, struct pirq *p)
{
    if (p->channel)
        detach_locked(t, p);
    if (p->is_msi)
        msi_free(p->irq);
    p->mapped = p->is_msi = false;
}

int pirq_unmap(struct domain *d, int pirq)
{
    struct pirq_table *t = d->pirq;
    int rc = -XEN_EINVAL;
    spin_lock(&t->lock);
    struct pirq *p = pirq < 0 ? NULL : pirq_at(t, pirq);
    if (p && p->mapped) {
        unmap_locked(t, p);
        rc = 0;
    }
    spin_unlock(&t->lock);
    return rc;
}

/* --- end of interrupt --- */

int pirq_eoi(struct domain *d, unsigned pirq)
{
    struct pirq_table *t = d->pirq;
    struct pirq *p = pirq_at(t, pirq);
    if (!p)
        return -XEN_EINVAL;
    /* Queue locks rank before ours, so the port comes first. */
    struct channel *ch = READ_ONCE(p->channel);
    if (!ch)
        return -XEN_EINVAL;
    if (READ_ONCE(t->auto_unmask))
        channel_unmask(ch);
    spin_lock(&t->lock);
    /* Only what this domain was given: a line may be another's by now. */
    if (p->channel && __atomic_exchange_n(&p->in_service, false, __ATOMIC_SEQ_CST))
        irq_done(p->irq);
    spin_unlock(&t->lock);
    return 0;
}

int pirq_status(struct domain *d, unsigned pirq, uint32_t *flags)
{
    struct pirq_table *t = d->pirq;
    int rc = -XEN_EINVAL;
    spin_lock(&t->lock);
    const struct pirq *p = pirq_at(t, pirq);
    if (p && p->mapped) {
        *flags = irq_needs_eoi(p->irq) ? XENIRQSTAT_needs_eoi : 0;
        rc = 0;
    }
    spin_unlock(&t->lock);
    return rc;
}

int pirq_set_eoi_map(struct domain *d, gfn_t g, bool auto_unmask)
{
    struct pirq_table *t = d->pirq;
    struct page *page = event_get_guest_page(d, g);
    if (!page)
        return -XEN_EINVAL;
    spin_lock(&t->lock);
    bool first = !t->eoi_map;
    if (first) {
        t->eoi_map = page_to_virt(page);
        t->auto_unmask = auto_unmask;
        for (unsigned i = 0; t->pirq && i < PIRQS; i++)
            eoi_map_update(t, &t->pirq[i]);
    }
    spin_unlock(&t->lock);
    if (!first)
        page_put_and_type(page);
    return first ? 0 : -XEN_EBUSY;
}

/* --- life --- */

int pirq_domain_init(struct domain *d)
{
    d->pirq = zalloc(sizeof(*d->pirq));
    if (!d->pirq)
        return -XEN_ENOMEM;
    spin_init(&d->pirq->lock, RANK_PIRQ);
    return 0;
}

void pirq_domain_relinquish(struct domain *d)
{
    struct pirq_table *t = d->pirq;
    spin_lock(&t->lock);
    for (unsigned i = 0; t->pirq && i < PIRQS; i++)
        if (t->pirq[i].mapped)
            unmap_locked(t, &t->pirq[i]);
    void *map = t->eoi_map;
    t->eoi_map = NULL;
    spin_unlock(&t->lock);
    if (map)
        page_put_and_type(virt_to_page(map));
}

void pirq_domain_fini(struct domain *d)
{
    if (!d->pirq)
        return;
    zfree(d->pirq->pirq);
    zfree(d->pirq);
    d->pirq = NULL;
}
