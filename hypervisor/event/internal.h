/*
 * What the files of event/ share: channels, the port table of a domain, and the two ways in which a
 * pending port is told to a guest.
 *
 * Field letters: [I] immutable once published, [a] atomic, [e] the table's lock (RANK_EVENT).
 */
#ifndef EVENT_INTERNAL_H
#define EVENT_INTERNAL_H

#include "event/event.h"

#define NR_VIRQS         24 /* xen/xen.h: VIRQ_ARCH_7 is the last */
#define PORTS_PER_BUCKET 128
#define PORTS_FIFO       ((unsigned)EVTCHN_FIFO_NR_CHANNELS)

enum channel_state {
    CHANNEL_FREE,
    CHANNEL_RESERVED, /* port 0: the ABI's "no port" */
    CHANNEL_UNBOUND,
    CHANNEL_INTERDOMAIN,
    CHANNEL_PIRQ,
    CHANNEL_VIRQ,
    CHANNEL_IPI,
};

/*
 * One port. Channels live in buckets of one page that are never freed before the domain is, after
 * a grace period; so whoever found one may use it until it leaves the hypervisor, whatever happens
 * to the binding meanwhile. The worst of a race between a send and a close is one spurious event.
 */
struct channel {
    struct channel *peer;  /* [a] where a send goes: the other end, itself for an IPI, or NULL */
    struct domain *domain; /* [I] whose port this is */
    uint32_t port;         /* [I] */
    union {                /* [e] */
        domid_t remote;    /* UNBOUND: who may bind it */
        uint32_t virq;
        uint32_t pirq;
    } u;
    uint16_t last;    /* [a] FIFO: queue it was last linked to (fifo.c) */
    uint8_t state;    /* [e], read by senders */
    uint8_t vcpu;     /* [a] which vCPU is told */
    uint8_t priority; /* [a] FIFO */
    bool early;       /* [a] FIFO: pending before its event word exists */
    bool ours;        /* [e] the hypervisor's, not the domain's: event_alloc_ours() */
};
_Static_assert(sizeof(struct channel) * PORTS_PER_BUCKET == PAGE_SIZE, "a bucket is one page");
_Static_assert(MAX_VCPUS <= 256, "channel.vcpu is one byte");

struct fifo;

struct event_table {
    struct spinlock lock;             /* RANK_EVENT */
    bool closed;                      /* [e] the domain is dying: no new ports */
    unsigned limit;                   /* [I] ports that creation allows, 0 included */
    unsigned valid;                   /* [a] ports that have a channel; grows by buckets */
    unsigned lowest;                  /* [e] no free port below */
    struct channel **bucket;          /* [I] the array; its entries are set once */
    uint64_t *used;                   /* [e] bitmap of ports not free */
    struct channel *virq[NR_VIRQS];   /* [a] global virqs */
    struct fifo *fifo;                /* [a] NULL: the 2-level ABI */
    uint64_t pollers[MAX_VCPUS / 64]; /* [a] vCPUs that have polled a port of another vCPU */
};

struct event_vcpu {
    struct channel *virq[NR_VIRQS]; /* [a] virqs of its own */
};

/* The channel of @port, free or not; NULL when there is none. Takes no lock. */
static inline struct channel *channel_at(const struct event_table *t, evtchn_port_t port)
{
    if (port >= __atomic_load_n(&t->valid, __ATOMIC_ACQUIRE))
        return NULL;
    return &t->bucket[port / PORTS_PER_BUCKET][port % PORTS_PER_BUCKET];
}

static inline bool channel_in_use(const struct channel *ch)
{
    return READ_ONCE(ch->state) > CHANNEL_RESERVED;
}

static inline struct vcpu *domain_vcpu(const struct domain *d, unsigned id)
{
    return id < d->max_vcpus && id < MAX_VCPUS ? READ_ONCE(d->vcpu[id]) : NULL;
}

/* Takes a free port; the caller holds the lock and gives it a state. -XEN_ENOSPC, -XEN_ENOMEM. */
int __must_check channel_alloc(struct domain *d, struct channel **out);
void channel_free(struct event_table *t, struct channel *ch); /* lock held */

/* Makes the port pending and tells its vCPU. Takes at most FIFO queue locks. */
void channel_raise(struct channel *ch);
void channel_unmask(struct channel *ch);
bool channel_pending(const struct channel *ch);
/* Sets the upcall flag of @v and, when that is news, makes it look. */
void vcpu_mark_events(struct vcpu *v);

/* Operations of the ABI that need more than the table (event.c, virq.c). */
int __must_check event_bind_interdomain(struct domain *d, domid_t remote, evtchn_port_t remote_port,
                                        evtchn_port_t *port);
int __must_check event_bind_ipi(struct domain *d, unsigned vcpu, evtchn_port_t *port);
int __must_check event_bind_pirq(struct domain *d, unsigned pirq, evtchn_port_t *port);
int __must_check event_bind_vcpu(struct domain *d, evtchn_port_t port, unsigned vcpu);
int __must_check event_bind_virq(struct domain *d, unsigned virq, unsigned vcpu,
                                 evtchn_port_t *port);
bool virq_is_global(unsigned virq);
void virq_unbind(struct channel *ch);         /* lock held */
bool virq_is_bound(const struct channel *ch); /* lock held: is it where it is looked for? */
void virq_forget_domain(struct domain *d);    /* it handles no global virq any more */
void event_close_all(struct domain *d);       /* preempts; @d is counted */
void event_console_input(void);

/* two_level.c: true when the port was not pending before. */
bool two_level_raise(struct channel *ch, struct vcpu *v);
void two_level_unmask(struct channel *ch, struct vcpu *v);
void two_level_clear(struct channel *ch);
bool two_level_pending(const struct channel *ch);

/* fifo.c */
bool fifo_raise(struct fifo *f, struct channel *ch);
void fifo_unmask(struct fifo *f, struct channel *ch);
void fifo_clear(struct fifo *f, struct channel *ch);
bool fifo_pending(const struct fifo *f, const struct channel *ch);
int __must_check fifo_init_control(struct domain *d, unsigned vcpu, gfn_t g, uint32_t offset);
int __must_check fifo_expand_array(struct domain *d, gfn_t g);
/* Back to the 2-level ABI; pages are given back after a grace period. */
void fifo_destroy(struct domain *d);

/* pirq.c: called with the event lock held. */
int __must_check pirq_attach(struct domain *d, unsigned pirq, struct channel *ch);
void pirq_detach(struct channel *ch);
unsigned pirq_astray(struct domain *d); /* how many lead to a port that is not theirs */
void pirq_affinity(struct channel *ch, unsigned cpu);

/* One frame of the guest's, written by us: reference and WRITABLE type taken. */
struct page *__must_check event_get_guest_page(struct domain *d, gfn_t g);

#endif
