/*
 * The FIFO ABI (xen/event_channel.h): one event word per port in pages of the guest, and per vCPU a
 * control block with the heads of sixteen queues, one per priority, linked through the words.
 *
 * We append, the guest consumes. To consume, the guest atomically clears LINKED and LINK of the
 * head and goes on at the LINK that it saw; zero means that the queue is empty. To append port P we
 * OR P into the tail's LINK: if the tail was still LINKED, the guest will find P there; if not, the
 * guest has emptied the queue, so P becomes the head and the queue's ready bit is set. The OR is
 * one instruction, so a guest that writes the words at the same time can neither delay us nor lead
 * us anywhere: no LINK is ever followed by us, and the ABI's BUSY bit is not needed.
 *
 * Invariant: a queue's tail is a port whose channel.last names that queue. A port is linked only
 * with the locks of its last and its new queue (RANK_EVENT_QUEUE, a pair) held, so nobody can set
 * LINKED of a queue's tail while that queue is locked.
 *
 * Lifetime: senders take no table lock. A struct fifo, and the references and WRITABLE types of the
 * guest pages in it, therefore end one grace period after the table has let go of it.
 */
#include "event/internal.h"

#include "lib/bitmap.h"

#define PENDING        (1u << EVTCHN_FIFO_PENDING)
#define MASKED         (1u << EVTCHN_FIFO_MASKED)
#define LINKED         (1u << EVTCHN_FIFO_LINKED)
#define LINK_MASK      ((uint32_t)EVTCHN_FIFO_LINK_MASK)

#define WORDS_PER_PAGE ((unsigned)(PAGE_SIZE / sizeof(event_word_t)))
#define ARRAY_PAGES    (PORTS_FIFO / WORDS_PER_PAGE)

struct fifo_queue {
    struct spinlock lock; /* RANK_EVENT_QUEUE */
    uint32_t tail;        /* [o] port linked last, 0 = none yet */
};

struct fifo_vcpu {
    struct evtchn_fifo_control_block *control; /* [I] in the guest's page */
    struct fifo_queue queue[EVTCHN_FIFO_MAX_QUEUES];
};

struct fifo {
    struct grace grace;
    struct domain *domain;
    bool counted;                      /* @domain is referenced until the grace period ends */
    unsigned pages;                    /* [e] of the event array */
    event_word_t *array[ARRAY_PAGES];  /* [a] set once */
    struct fifo_vcpu *vcpu[MAX_VCPUS]; /* [a] set once */
};

/* channel.last: the vCPU and the priority that make a queue. */
static inline uint16_t queue_id(unsigned vcpu, unsigned priority)
{
    return (uint16_t)(vcpu * EVTCHN_FIFO_MAX_QUEUES + priority);
}

static struct fifo_queue *queue_at(struct fifo *f, uint16_t id)
{
    struct fifo_vcpu *fv = __atomic_load_n(&f->vcpu[id / EVTCHN_FIFO_MAX_QUEUES], __ATOMIC_ACQUIRE);
    return fv ? &fv->queue[id % EVTCHN_FIFO_MAX_QUEUES] : NULL;
}

static event_word_t *word_at(const struct fifo *f, uint32_t port)
{
    event_word_t *page = NULL;
    if (port < PORTS_FIFO)
        page = __atomic_load_n(&f->array[port / WORDS_PER_PAGE], __ATOMIC_ACQUIRE);
    return page ? &page[port % WORDS_PER_PAGE] : NULL;
}

/*
 * Locks @q, to which @ch shall go, and the queue that it was last on, returned. A retry means that
 * another CPU has just linked the port, which it does only after the guest has consumed it.
 */
static struct fifo_queue *lock_queues(struct fifo *f, struct channel *ch, struct fifo_queue *q)
{
    for (;;) {
        uint16_t last = READ_ONCE(ch->last);
        struct fifo_queue *from = queue_at(f, last);
        if (!from)
            from = q;
        spin_lock_pair(&from->lock, &q->lock);
        if (likely(READ_ONCE(ch->last) == last))
            return from;
        spin_unlock_pair(&from->lock, &q->lock);
        spin_poll();
    }
}

/* Appends @port behind @tail (another port) if that is still linked. */
static bool append(struct fifo *f, uint32_t tail, uint32_t port)
{
    event_word_t *word = word_at(f, tail);
    if (!word)
        return false;
    if (__atomic_fetch_or(word, port, __ATOMIC_SEQ_CST) & LINKED)
        return true;
    __atomic_fetch_and(word, ~LINK_MASK, __ATOMIC_SEQ_CST);
    return false;
}

/* Puts a port whose word says neither MASKED nor LINKED at the end of its queue. */
static void link(struct fifo *f, struct channel *ch, event_word_t *word)
{
    unsigned id = READ_ONCE(ch->vcpu), priority = READ_ONCE(ch->priority);
    struct vcpu *v = domain_vcpu(f->domain, id);
    uint16_t to = queue_id(id, priority);
    struct fifo_queue *q = queue_at(f, to);
    /* A vCPU without a control block cannot be told; the port stays pending in its word. */
    if (!v || !q)
        return;

    struct fifo_queue *from = lock_queues(f, ch, q);
    if (__atomic_fetch_or(word, LINKED, __ATOMIC_SEQ_CST) & LINKED) {
        spin_unlock_pair(&from->lock, &q->lock);
        return;
    }
    if (from != q && from->tail == ch->port)
        from->tail = 0;
    WRITE_ONCE(ch->last, to);
    bool appended = q->tail && q->tail != ch->port && append(f, q->tail, ch->port);
    struct evtchn_fifo_control_block *control = f->vcpu[id]->control;
    if (!appended)
        WRITE_ONCE(control->head[priority], ch->port);
    q->tail = ch->port;
    spin_unlock_pair(&from->lock, &q->lock);

    uint32_t ready = 1u << priority;
    if (!appended && !(__atomic_fetch_or(&control->ready, ready, __ATOMIC_SEQ_CST) & ready))
        vcpu_mark_events(v);
}

bool fifo_raise(struct fifo *f, struct channel *ch)
{
    event_word_t *word = word_at(f, ch->port);
    if (unlikely(!word)) {
        /* Remembered until the page comes; whoever of the two sees both, delivers. */
        __atomic_store_n(&ch->early, true, __ATOMIC_SEQ_CST);
        word = word_at(f, ch->port);
        if (!word || !__atomic_exchange_n(&ch->early, false, __ATOMIC_SEQ_CST))
            return true;
    }
    event_word_t old = __atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST);
    if (!(old & (MASKED | LINKED)))
        link(f, ch, word);
    return !(old & PENDING);
}

void fifo_unmask(struct fifo *f, struct channel *ch)
{
    event_word_t *word = word_at(f, ch->port);
    if (!word)
        return;
    event_word_t old = __atomic_fetch_and(word, ~MASKED, __ATOMIC_SEQ_CST);
    if ((old & PENDING) && !(old & LINKED))
        link(f, ch, word);
}

void fifo_clear(struct fifo *f, struct channel *ch)
{
    event_word_t *word = word_at(f, ch->port);
    if (word)
        __atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
    __atomic_store_n(&ch->early, false, __ATOMIC_SEQ_CST);
}

bool fifo_pending(const struct fifo *f, const struct channel *ch)
{
    event_word_t *word = word_at(f, ch->port);
    return word ? READ_ONCE(*word) & PENDING : READ_ONCE(ch->early);
}

/* --- set-up --- */

static void page_release(void *va)
{
    if (va)
        page_put_and_type(virt_to_page(va));
}

static void fifo_free(struct fifo *f)
{
    for (unsigned i = 0; i < ARRAY_PAGES; i++)
        page_release(f->array[i]);
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        if (!f->vcpu[i])
            continue;
        page_release(f->vcpu[i]->control);
        zfree(f->vcpu[i]);
    }
    __atomic_fetch_sub(&f->domain->overhead_pages, 1, __ATOMIC_RELAXED);
    zfree(f);
}

static void fifo_free_after_grace(struct grace *g)
{
    struct fifo *f = container_of(g, struct fifo, grace);
    struct domain *d = f->domain;
    bool counted = f->counted;
    fifo_free(f);
    if (counted)
        domain_put(d);
}

static struct fifo_vcpu *fifo_vcpu_alloc(struct page *page, uint32_t offset)
{
    struct fifo_vcpu *fv = zalloc(sizeof(*fv));
    if (!fv)
        return NULL;
    fv->control = (void *)((uint8_t *)page_to_virt(page) + offset);
    for (unsigned i = 0; i < EVTCHN_FIFO_MAX_QUEUES; i++)
        spin_init(&fv->queue[i].lock, RANK_EVENT_QUEUE);
    return fv;
}

/* What was pending by the 2-level ABI becomes pending once its event word exists. Lock held. */
static void adopt_ports(struct event_table *t)
{
    for (unsigned port = 1; port < t->valid; port++) {
        struct channel *ch = channel_at(t, port);
        ch->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
        ch->last = 0;
        ch->early = channel_in_use(ch) && two_level_pending(ch);
    }
}

static int install_control(struct domain *d, unsigned vcpu, struct fifo_vcpu *fv)
{
    struct event_table *t = d->event;
    if (t->closed)
        return -XEN_EINVAL;
    struct fifo *f = t->fifo;
    if (f && f->vcpu[vcpu])
        return -XEN_EINVAL;
    if (!f) {
        f = zalloc(sizeof(*f));
        if (!f)
            return -XEN_ENOMEM;
        f->domain = d;
        __atomic_fetch_add(&d->overhead_pages, 1, __ATOMIC_RELAXED);
        adopt_ports(t);
    }
    __atomic_store_n(&f->vcpu[vcpu], fv, __ATOMIC_RELEASE);
    __atomic_store_n(&t->fifo, f, __ATOMIC_RELEASE);
    return 0;
}

int fifo_init_control(struct domain *d, unsigned vcpu, gfn_t g, uint32_t offset)
{
    if (!domain_vcpu(d, vcpu))
        return -XEN_ENOENT;
    if (offset > PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) || offset % 8)
        return -XEN_EINVAL;
    struct page *page = event_get_guest_page(d, g);
    if (!page)
        return -XEN_EINVAL;
    struct fifo_vcpu *fv = fifo_vcpu_alloc(page, offset);
    int rc = -XEN_ENOMEM;
    if (fv) {
        spin_lock(&d->event->lock);
        rc = install_control(d, vcpu, fv);
        spin_unlock(&d->event->lock);
    }
    if (rc) {
        zfree(fv);
        page_put_and_type(page);
    }
    return rc;
}

/* Delivers what was raised for the ports of array page @i before there were words for them. */
static void raise_early(struct event_table *t, struct fifo *f, unsigned i)
{
    for (unsigned n = 0; n < WORDS_PER_PAGE; n++) {
        struct channel *ch = channel_at(t, i * WORDS_PER_PAGE + n);
        if (!ch)
            return;
        if (READ_ONCE(ch->early) && __atomic_exchange_n(&ch->early, false, __ATOMIC_SEQ_CST))
            fifo_raise(f, ch);
    }
}

static int install_array_page(struct event_table *t, event_word_t *words)
{
    struct fifo *f = t->fifo;
    if (!f)
        return -XEN_ENOSYS;
    if (f->pages * WORDS_PER_PAGE >= t->limit || f->pages >= ARRAY_PAGES)
        return -XEN_ENOSPC;
    __atomic_store_n(&f->array[f->pages], words, __ATOMIC_SEQ_CST);
    raise_early(t, f, f->pages);
    f->pages++;
    return 0;
}

int fifo_expand_array(struct domain *d, gfn_t g)
{
    if (!READ_ONCE(d->event->fifo))
        return -XEN_ENOSYS;
    struct page *page = event_get_guest_page(d, g);
    if (!page)
        return -XEN_EINVAL;
    spin_lock(&d->event->lock);
    int rc = install_array_page(d->event, page_to_virt(page));
    spin_unlock(&d->event->lock);
    if (rc)
        page_put_and_type(page);
    return rc;
}

void fifo_destroy(struct domain *d)
{
    struct event_table *t = d->event;
    spin_lock(&t->lock);
    struct fifo *f = t->fifo;
    __atomic_store_n(&t->fifo, NULL, __ATOMIC_RELEASE);
    spin_unlock(&t->lock);
    if (!f)
        return;
    f->counted = domain_get(d);
    grace_call(&f->grace, fifo_free_after_grace);
}
