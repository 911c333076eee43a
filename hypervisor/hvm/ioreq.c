/*
 * I/O request servers (hvm/ioreq.h).
 *
 * A request goes through the slot of its vCPU in the server's page: we fill it and say READY, the
 * device model says IN PROCESS, then RESPONSE READY, we take the answer and say NONE. What the
 * device model writes is only believed as an answer's data; a state that never becomes RESPONSE
 * READY keeps that vCPU waiting, and nobody else.
 *
 * A vCPU waits by SCHED_IOREQ on its own stack, holding nothing, and therefore counts as quiet:
 * its domain can be paused and destroyed meanwhile. A server that goes takes itself out of the
 * vCPUs that wait for it and wakes them.
 *
 * What a guest writes into the window of VGA's memory needs no answer: it goes into the ring of a
 * server that has one, and the vCPU goes on. Device models empty the ring before they serve a
 * request of any vCPU, so that nothing overtakes it.
 */
#include "hvm/ioreq.h"

#include "event/event.h"
#include "hvm/hvm.h"
#include "lib/range.h"
#include "lib/string.h"

#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/memory.h>

#define SERVERS     8
#define RANGES_MOST 256 /* of one kind, per server: so much memory may a device model cost */
#define SLOTS       (PAGE_SIZE / sizeof(struct ioreq))
_Static_assert(MAX_VCPUS <= SLOTS, "one page has a slot for every vCPU");

enum kind { KIND_PORT, KIND_MEMORY, KIND_PCI, KINDS };
_Static_assert(KIND_PORT == XEN_DMOP_IO_RANGE_PORT && KIND_MEMORY == XEN_DMOP_IO_RANGE_MEMORY &&
                   KIND_PCI == XEN_DMOP_IO_RANGE_PCI,
               "the ABI's numbers");

struct ioreq_server {
    bool used, enabled, ports;     /* [i] ports: made, one per vCPU */
    domid_t owner;                 /* [i] */
    uint8_t buffered;              /* [i] HVM_IOREQSRV_BUFIOREQ_* */
    struct range_set range[KINDS]; /* [i] */
    evtchn_port_t port[MAX_VCPUS]; /* [i] */
    evtchn_port_t buffered_port;   /* [i] */
    void *page[2];                 /* [i] buffered ring, slots; NULL: never needed yet */
};

struct ioreq_domain {
    struct spinlock lock; /* RANK_IOREQ; fields [i] */
    struct ioreq_server server[SERVERS];
};

static struct ioreq_domain *of(const struct domain *d)
{
    return d->hvm->ioreq;
}

/* Lock held. NULL: there is none of that number. */
static struct ioreq_server *server_at(const struct domain *d, ioservid_t id)
{
    struct ioreq_server *s = id < SERVERS ? &of(d)->server[id] : NULL;
    return s && s->used ? s : NULL;
}

/* --- a request --- */

static enum kind kind_of(const struct ioreq_access *a)
{
    return a->type == IOREQ_TYPE_PIO          ? KIND_PORT
           : a->type == IOREQ_TYPE_PCI_CONFIG ? KIND_PCI
                                              : KIND_MEMORY;
}

/* Lock held. */
static struct ioreq_server *choose(const struct domain *d, const struct ioreq_access *a)
{
    enum kind k = kind_of(a);
    uint64_t first = k == KIND_PCI ? a->addr >> 32 : a->addr;
    uint64_t bytes = k == KIND_MEMORY && a->count ? (uint64_t)a->count * a->size : a->size;
    uint64_t last = k == KIND_PCI ? first : a->addr + bytes - 1;
    for (unsigned i = 0; i < SERVERS; i++) {
        struct ioreq_server *s = &of(d)->server[i];
        if (s->used && s->enabled && range_contains(&s->range[k], first, last) &&
            (!a->within || range_contains(&s->range[k], a->data, a->data + bytes - 1)))
            return s;
    }
    return NULL;
}

static uint8_t state_of(const volatile struct ioreq *slot)
{
    return slot->state;
}

/* Lock held: nobody destroys the server meanwhile. */
static void post(struct vcpu *v, struct ioreq_server *s, const struct ioreq_access *a)
{
    volatile struct ioreq *slot = (struct ioreq *)s->page[1] + v->id;
    struct ioreq r = {
        .addr = a->addr,
        .data = a->write || a->pointer ? a->data : 0,
        .count = a->count ? a->count : 1,
        .size = a->size,
        .vp_eport = s->port[v->id],
        .state = STATE_IOREQ_NONE,
        .data_is_ptr = a->pointer,
        .dir = a->write ? IOREQ_WRITE : IOREQ_READ,
        .type = a->type,
    };
    *slot = r;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the state is what the device model looks at */
    slot->state = STATE_IOREQ_READY;
    WRITE_ONCE(v->hvm->ioreq, s);
    event_send_ours(v->domain, s->port[v->id]);
}

#define VGA_FIRST 0xa0000UL
#define VGA_END   0xc0000UL

static bool needs_no_answer(const struct ioreq_access *a)
{
    return a->type == IOREQ_TYPE_COPY && a->write && !a->pointer && a->count <= 1 &&
           a->addr >= VGA_FIRST && a->addr + a->size <= VGA_END;
}

/*
 * Into the ring; false: it is full, or there is none. Its two words are one here: where the device
 * model reads, which it adds to atomically, and where we write. Both start anew before they
 * overflow, as 2^32 is no multiple of the slots. What the device model makes of them is its own
 * loss. Lock held.
 */
static bool put_buffered(struct domain *d, struct ioreq_server *s, const struct ioreq_access *a)
{
    struct buffered_iopage *ring = s->page[0];
    uint64_t *words = s->page[0], now = __atomic_load_n(words, __ATOMIC_ACQUIRE);
    uint32_t at = now >> 32, used = at - (uint32_t)now, need = a->size == 8 ? 2 : 1;
    if (s->buffered != HVM_IOREQSRV_BUFIOREQ_ATOMIC || used > IOREQ_BUFFER_SLOT_NUM - need)
        return false;
    for (unsigned i = 0; i < need; i++)
        ring->buf_ioreq[(at + i) % IOREQ_BUFFER_SLOT_NUM] =
            (struct buf_ioreq){.type = a->type,
                               .dir = IOREQ_WRITE,
                               .size = a->size == 8 ? 3 : a->size >> 1,
                               .addr = a->addr,
                               .data = a->data >> 32 * i};
    now = __atomic_add_fetch(words, (uint64_t)need << 32, __ATOMIC_RELEASE);
    if ((uint32_t)now >= IOREQ_BUFFER_SLOT_NUM)
        (void)__atomic_compare_exchange_n(words, &now,
                                          now - IOREQ_BUFFER_SLOT_NUM * (1UL << 32 | 1), false,
                                          __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    event_send_ours(d, s->buffered_port);
    return true;
}

/* The answer's data; false: the server is gone. */
static bool await(struct vcpu *v, uint64_t *data)
{
    for (;;) {
        sched_block(&v->sched, SCHED_IOREQ); /* before looking: who answers looks for this */
        struct ioreq_server *s = READ_ONCE(v->hvm->ioreq);
        volatile struct ioreq *slot = s ? (struct ioreq *)s->page[1] + v->id : NULL;
        if (!slot || state_of(slot) == STATE_IORESP_READY) {
            sched_unblock(&v->sched, SCHED_IOREQ);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (!slot)
                return false;
            *data = slot->data;
            slot->state = STATE_IOREQ_NONE;
            WRITE_ONCE(v->hvm->ioreq, NULL);
            return true;
        }
        schedule();
    }
}

bool ioreq_send(struct vcpu *v, struct ioreq_access *a)
{
    struct domain *d = v->domain;
    spin_lock(&of(d)->lock);
    struct ioreq_server *s = choose(d, a);
    bool done = s && needs_no_answer(a) && put_buffered(d, s, a);
    if (s && !done)
        post(v, s, a);
    spin_unlock(&of(d)->lock);
    if (done)
        return true;
    uint64_t data;
    if (!s || !await(v, &data))
        return false;
    if (!a->write && !a->pointer)
        a->data = data & (a->size < 8 ? (1UL << 8 * a->size) - 1 : ~0UL);
    return true;
}

void ioreq_invalidate(struct vcpu *v)
{
    const struct ioreq_access all = {
        .type = IOREQ_TYPE_INVALIDATE, .write = true, .size = 4, .data = ~0UL};
    struct domain *d = v->domain;
    for (unsigned i = 0; i < SERVERS; i++) {
        uint64_t ignored;
        if (!READ_ONCE(of(d)->server[i].used))
            continue;
        spin_lock(&of(d)->lock);
        struct ioreq_server *s = server_at(d, i);
        bool told = s && s->enabled;
        if (told)
            post(v, s, &all);
        spin_unlock(&of(d)->lock);
        if (told)
            (void)await(v, &ignored); /* one that is gone has forgotten, too */
    }
}

void ioreq_answered(struct vcpu *v)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* its answer is seen before we look: await() */
    if (v && (READ_ONCE(v->sched.blockers) & SCHED_IOREQ))
        sched_unblock(&v->sched, SCHED_IOREQ);
}

/* --- servers --- */

/* Lock held. */
static int make_pages(struct domain *d, struct ioreq_server *s)
{
    for (unsigned i = 0; i < ARRAY_SIZE(s->page); i++) {
        void *p = s->page[i] ? NULL : xpage_alloc();
        if (!s->page[i] && !p)
            return -XEN_ENOMEM;
        if (p) {
            page_share(d, virt_to_page(p));
            __atomic_fetch_add(&d->overhead_pages, 1, __ATOMIC_RELAXED);
            s->page[i] = p;
        }
        memset(s->page[i], 0, PAGE_SIZE);
    }
    return 0;
}

static void free_ports(struct domain *d, struct ioreq_server *s)
{
    for (unsigned i = 0; i < d->max_vcpus; i++)
        if (s->port[i])
            event_free_ours(d, s->port[i]);
    if (s->buffered_port)
        event_free_ours(d, s->buffered_port);
    memset(s->port, 0, sizeof(s->port));
    s->buffered_port = 0;
}

static int make_ports(struct domain *d, struct ioreq_server *s)
{
    int rc = 0;
    for (unsigned i = 0; !rc && i < d->max_vcpus; i++)
        rc = event_alloc_ours(d, i, s->owner, &s->port[i]);
    if (!rc && s->buffered != HVM_IOREQSRV_BUFIOREQ_OFF)
        rc = event_alloc_ours(d, 0, s->owner, &s->buffered_port);
    if (rc)
        free_ports(d, s);
    for (unsigned i = 0; !rc && i < d->max_vcpus; i++)
        ((struct ioreq *)s->page[1])[i].vp_eport = s->port[i];
    return rc;
}

/* The pages of a former server at a device model that holds on: what is next is none of its
 * business. */
static bool still_mapped(const struct ioreq_server *s)
{
    for (unsigned i = 0; i < ARRAY_SIZE(s->page); i++)
        if (s->page[i] && !page_only_ours(virt_to_page(s->page[i])))
            return true;
    return false;
}

int ioreq_create(struct domain *d, domid_t owner, uint8_t buffered, ioservid_t *id)
{
    struct ioreq_domain *io = of(d);
    struct ioreq_server *s;
    unsigned i = 0;
    if (buffered > HVM_IOREQSRV_BUFIOREQ_ATOMIC)
        return -XEN_EINVAL;
    spin_lock(&io->lock);
    while (i < SERVERS && (io->server[i].used || still_mapped(&io->server[i])))
        i++;
    s = i < SERVERS && !d->dying ? &io->server[i] : NULL;
    int rc = s ? make_pages(d, s) : -XEN_ENOSPC;
    if (!rc) {
        s->owner = owner;
        s->buffered = buffered;
        rc = make_ports(d, s);
    }
    if (!rc) {
        s->used = true;
        s->enabled = false;
        *id = i;
    }
    spin_unlock(&io->lock);
    return rc;
}

/* Lock held. */
static void destroy(struct domain *d, struct ioreq_server *s)
{
    struct vcpu *v;
    s->used = s->enabled = false;
    for_each_vcpu(d, v) {
        if (!v->hvm || READ_ONCE(v->hvm->ioreq) != s)
            continue;
        WRITE_ONCE(v->hvm->ioreq, NULL);
        sched_unblock(&v->sched, SCHED_IOREQ);
    }
    free_ports(d, s);
    for (unsigned k = 0; k < KINDS; k++)
        range_free(&s->range[k]);
}

int ioreq_destroy(struct domain *d, ioservid_t id)
{
    spin_lock(&of(d)->lock);
    struct ioreq_server *s = server_at(d, id);
    if (s)
        destroy(d, s);
    spin_unlock(&of(d)->lock);
    return s ? 0 : -XEN_ENOENT;
}

int ioreq_info(struct domain *d, ioservid_t id, evtchn_port_t *buffered_port)
{
    spin_lock(&of(d)->lock);
    const struct ioreq_server *s = server_at(d, id);
    *buffered_port = s ? s->buffered_port : 0;
    spin_unlock(&of(d)->lock);
    return s ? 0 : -XEN_ENOENT;
}

int ioreq_range(struct domain *d, const struct xen_dm_op_ioreq_server_range *r, bool add)
{
    if (r->pad || r->type >= KINDS || r->start > r->end ||
        (r->type == KIND_PORT && r->end > 0xffff))
        return -XEN_EINVAL;
    spin_lock(&of(d)->lock);
    struct ioreq_server *s = server_at(d, r->id);
    struct range_set *set = s ? &s->range[r->type] : NULL;
    int rc = s ? 0 : -XEN_ENOENT;
    if (!rc && add && range_overlaps(set, r->start, r->end))
        rc = -XEN_EEXIST;
    if (!rc && add && set->count >= RANGES_MOST)
        rc = -XEN_ENOSPC;
    if (!rc && !add && !range_contains(set, r->start, r->end))
        rc = -XEN_ENOENT;
    if (!rc)
        rc = add ? range_add(set, r->start, r->end) : range_remove(set, r->start, r->end);
    spin_unlock(&of(d)->lock);
    return rc;
}

int ioreq_enable(struct domain *d, ioservid_t id, bool on)
{
    spin_lock(&of(d)->lock);
    struct ioreq_server *s = server_at(d, id);
    if (s)
        s->enabled = on;
    spin_unlock(&of(d)->lock);
    return s ? 0 : -XEN_ENOENT;
}

int ioreq_frame(struct domain *d, ioservid_t id, unsigned n, mfn_t *frame)
{
    int rc = n < ARRAY_SIZE(((struct ioreq_server *)NULL)->page) ? 0 : -XEN_EINVAL;
    spin_lock(&of(d)->lock);
    const struct ioreq_server *s = server_at(d, id);
    if (!s)
        rc = -XEN_ENOENT;
    else if (!rc && n == XENMEM_resource_ioreq_server_frame_bufioreq && !s->buffered_port)
        rc = -XEN_ENOENT;
    if (!rc)
        *frame = virt_to_mfn(s->page[n]);
    spin_unlock(&of(d)->lock);
    return rc;
}

/* --- with the domain --- */

int ioreq_init(struct domain *d)
{
    struct ioreq_domain *io = zalloc(sizeof(*io));
    if (!io)
        return -XEN_ENOMEM;
    spin_init(&io->lock, RANK_IOREQ);
    d->hvm->ioreq = io;
    return 0;
}

void ioreq_relinquish(struct domain *d)
{
    if (!of(d))
        return;
    spin_lock(&of(d)->lock);
    for (unsigned i = 0; i < SERVERS; i++)
        if (of(d)->server[i].used)
            destroy(d, &of(d)->server[i]);
    spin_unlock(&of(d)->lock);
}

bool ioreq_shown(const struct domain *d)
{
    const struct ioreq_domain *io = of(d);
    for (unsigned i = 0; io && i < SERVERS; i++)
        if (still_mapped(&io->server[i]))
            return true;
    return false;
}

/* Nobody maps the pages any more, as with the domain's other shared ones. */
void ioreq_fini(struct domain *d)
{
    struct ioreq_domain *io = of(d);
    if (!io)
        return;
    for (unsigned i = 0; i < SERVERS * 2; i++) {
        void *p = io->server[i / 2].page[i % 2];
        if (!p)
            continue;
        page_unshare_free(d, virt_to_page(p));
        __atomic_fetch_sub(&d->overhead_pages, 1, __ATOMIC_RELAXED);
    }
    zfree(io);
    d->hvm->ioreq = NULL;
}
