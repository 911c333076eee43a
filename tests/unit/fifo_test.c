/* SOURCES: event/event.c event/two_level.c event/fifo.c event/virq.c event/op.c event/pirq.c hypercall/permission.c mm/page.c mm/page_type.c lib/bitmap.c lib/spinlock.c fake/cpu.c fake/alloc.c fake/domain.c fake/guest.c fake/irq.c */
/*
 * FIFO event delivery against a consumer written from the public header: order, priorities, moves
 * between queues, words that are not there yet, hostile words, and pages that outlive a reset.
 */
#include <threads.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "event/internal.h"
#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "fake/irq.h"
#include "hypercall/table.h"

#define BIT(n) (1u << EVTCHN_FIFO_##n)

#define VCPUS 4
#define ARRAY 3 /* pages: ports 0..3071 */

static struct domain *d;
static struct page *control_page, *array_page[ARRAY];

static __thread struct cpu *thread_cpu;
struct cpu *this_cpu(void)
{
    return thread_cpu ? thread_cpu : &fake_cpu[0];
}

/* Grace periods end when the test says so. */
static struct grace *waiting;
static void (*waiting_fn)(struct grace *);
void grace_call(struct grace *g, void (*fn)(struct grace *))
{
    assert_null(waiting);
    waiting = g;
    waiting_fn = fn;
}

static void grace_over(void)
{
    struct grace *g = waiting;
    waiting = NULL;
    if (g)
        waiting_fn(g);
}

/* --- the guest's side --- */

static struct evtchn_fifo_control_block *control(unsigned vcpu)
{
    return (void *)((uint8_t *)page_to_virt(control_page) + vcpu * 128);
}

static event_word_t *word(evtchn_port_t port)
{
    return &((event_word_t *)page_to_virt(array_page[port / 1024]))[port % 1024];
}

static uint32_t cached_head[VCPUS][EVTCHN_FIFO_MAX_QUEUES], cached_ready[VCPUS];
static bool senders_run; /* then a ready bit may come after its event was consumed */

/* The next port that the guest would handle on @vcpu, 0 when there is none; pending is cleared. */
static evtchn_port_t consume(unsigned vcpu)
{
    struct evtchn_fifo_control_block *c = control(vcpu);
    uint32_t *ready = &cached_ready[vcpu];
    d->vcpu[vcpu]->info->evtchn_upcall_pending = 0;
    while (*ready |= __atomic_exchange_n(&c->ready, 0, __ATOMIC_SEQ_CST), *ready) {
        unsigned q = __builtin_ctz(*ready);
        uint32_t *head = &cached_head[vcpu][q];
        evtchn_port_t port = *head ? *head : __atomic_load_n(&c->head[q], __ATOMIC_SEQ_CST);
        uint32_t mask = BIT(LINKED) | EVTCHN_FIFO_LINK_MASK;
        uint32_t old = __atomic_fetch_and(word(port), ~mask, __ATOMIC_SEQ_CST);
        assert_true(senders_run || (old & BIT(LINKED)));
        *head = old & EVTCHN_FIFO_LINK_MASK;
        if (!*head)
            *ready &= ~(1u << q);
        if ((old & BIT(PENDING)) && !(old & BIT(MASKED))) {
            __atomic_fetch_and(word(port), ~BIT(PENDING), __ATOMIC_SEQ_CST);
            return port;
        }
    }
    return 0;
}

static long op(unsigned cmd, void *arg)
{
    return hc_event_channel_op(cmd, (uint64_t)arg);
}

static evtchn_port_t ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi b = {.vcpu = vcpu};
    assert_int_equal(op(EVTCHNOP_bind_ipi, &b), 0);
    return b.port;
}

static void send(evtchn_port_t port)
{
    assert_int_equal(event_send(d, port), 0);
}

static long init_control(unsigned vcpu, uint64_t frame, uint32_t offset)
{
    struct evtchn_init_control c = {.control_gfn = frame, .offset = offset, .vcpu = vcpu};
    long rc = op(EVTCHNOP_init_control, &c);
    if (!rc)
        assert_int_equal(c.link_bits, EVTCHN_FIFO_LINK_BITS);
    return rc;
}

static long expand(struct page *page)
{
    struct evtchn_expand_array e = {page_to_mfn(page).n};
    return op(EVTCHNOP_expand_array, &e);
}

static void fifo_on(void)
{
    for (unsigned i = 0; i < VCPUS; i++)
        assert_int_equal(init_control(i, page_to_mfn(control_page).n, i * 128), 0);
    for (unsigned i = 0; i < ARRAY; i++)
        assert_int_equal(expand(array_page[i]), 0);
}

static int setup(void **state)
{
    fake_ram_reset();
    fake_alloc_live = fake_alloc_fail_in = 0;
    memset(cached_head, 0, sizeof(cached_head));
    memset(cached_ready, 0, sizeof(cached_ready));
    senders_run = false;
    d = fake_domain_new(1, VCPUS, false);
    assert_int_equal(event_domain_init(d, 4000), 0);
    assert_int_equal(pirq_domain_init(d), 0);
    for (unsigned i = 0; i < VCPUS; i++)
        assert_int_equal(event_vcpu_init(d->vcpu[i]), 0);
    control_page = fake_domain_page(d);
    for (unsigned i = 0; i < ARRAY; i++)
        array_page[i] = fake_domain_page(d);
    fake_current(d->vcpu[0]);
    return 0;
}

static int setup_on(void **state)
{
    setup(state);
    fifo_on();
    return 0;
}

static int teardown(void **state)
{
    grace_over();
    event_domain_relinquish(d);
    grace_over();
    assert_int_equal(control_page->type & PAGE_TYPE_COUNT, 0);
    fake_domain_page_drop(control_page);
    for (unsigned i = 0; i < ARRAY; i++)
        fake_domain_page_drop(array_page[i]);
    for (unsigned i = 0; i < VCPUS; i++)
        event_vcpu_fini(d->vcpu[i]);
    event_domain_fini(d);
    pirq_domain_fini(d);
    fake_domain_free(d);
    assert_int_equal(fake_alloc_live, 0);
    return 0;
}

/* --- setting up --- */

static void test_init_control(void **state)
{
    uint64_t frame = page_to_mfn(control_page).n;
    struct evtchn_set_priority p = {1, 3};
    assert_int_equal(expand(array_page[0]), -XEN_ENOSYS); /* not FIFO yet */
    assert_int_equal(op(EVTCHNOP_set_priority, &p), -XEN_ENOSYS);
    assert_int_equal(init_control(0, frame, 4), -XEN_EINVAL); /* alignment */
    assert_int_equal(init_control(0, frame, PAGE_SIZE - 64), -XEN_EINVAL);
    assert_int_equal(init_control(0, frame, ~0u & ~7u), -XEN_EINVAL);
    assert_int_equal(init_control(VCPUS, frame, 0), -XEN_ENOENT);
    assert_int_equal(init_control(0, ~0UL, 0), -XEN_EINVAL);
    assert_int_equal(page_get_type(control_page, PAGE_WRITABLE), 0);
    control_page->type = (control_page->type & ~PAGE_TYPE_MASK) | (uint64_t)PAGE_L1
                                                                     << PAGE_TYPE_SHIFT;
    assert_int_equal(init_control(0, frame, 0), -XEN_EINVAL); /* a page table */
    control_page->type = (control_page->type & ~PAGE_TYPE_MASK) | (uint64_t)PAGE_WRITABLE
                                                                     << PAGE_TYPE_SHIFT;
    page_put_type(control_page);

    for (unsigned n = 1; n <= 2; n++) {
        fake_alloc_fail_in = n;
        assert_int_equal(init_control(0, frame, 0), -XEN_ENOMEM);
        assert_int_equal(control_page->type & PAGE_TYPE_COUNT, 0);
        assert_int_equal(control_page->refs & PAGE_REF_COUNT, 1);
    }
    assert_int_equal(init_control(0, frame, PAGE_SIZE - 72), 0);
    assert_int_equal(init_control(0, frame, 0), -XEN_EINVAL); /* once */
    assert_int_equal(init_control(1, frame, 0), 0);

    for (unsigned i = 0; i < ARRAY; i++)
        assert_int_equal(expand(array_page[i]), 0);
    assert_int_equal(expand(array_page[0]), 0); /* the guest's own business */
    assert_int_equal(expand(array_page[0]), -XEN_ENOSPC); /* ports end at 4000 */
    struct evtchn_expand_array e = {~0UL};
    assert_int_equal(op(EVTCHNOP_expand_array, &e), -XEN_EINVAL);
}

static void test_ports_beyond_two_level(void **state)
{
    struct domain *big = fake_domain_new(2, 1, false);
    evtchn_port_t port;
    assert_int_equal(event_domain_init(big, ~0u), 0);
    for (unsigned i = 1; i < 4096; i++)
        assert_int_equal(event_alloc_unbound(big, 1, &port), 0);
    assert_int_equal(event_alloc_unbound(big, 1, &port), -XEN_ENOSPC);
    fake_current(big->vcpu[0]);
    struct page *page = fake_domain_page(big);
    assert_int_equal(init_control(0, page_to_mfn(page).n, 0), 0);
    assert_int_equal(event_alloc_unbound(big, 1, &port), 0);
    assert_int_equal(port, 4096);
    for (unsigned i = 4097; i < EVTCHN_FIFO_NR_CHANNELS; i++)
        assert_int_equal(event_alloc_unbound(big, 1, &port), 0);
    assert_int_equal(event_alloc_unbound(big, 1, &port), -XEN_ENOSPC);

    /* Back to 2-level with a late sender for a port that it cannot express. */
    struct channel *ch = channel_at(big->event, 100000);
    struct evtchn_reset r = {.dom = DOMID_SELF};
    assert_int_equal(op(EVTCHNOP_reset, &r), 0);
    channel_raise(ch);
    channel_unmask(ch);
    assert_false(channel_pending(ch));
    assert_int_equal(event_send(big, 100000), -XEN_EINVAL);
    grace_over();
    fake_domain_page_drop(page);
    event_domain_relinquish(big);
    event_domain_fini(big);
    fake_domain_free(big);
}

/* What was pending by the 2-level ABI, or is raised before the word exists, arrives later. */
static void test_early_events(void **state)
{
    evtchn_port_t a = ipi(0), b = ipi(1);
    send(a);
    d->vcpu[0]->info->evtchn_upcall_pending = 0;
    for (unsigned i = 0; i < VCPUS; i++)
        assert_int_equal(init_control(i, page_to_mfn(control_page).n, i * 128), 0);
    send(b);
    assert_true(event_port_pending(d, b));
    assert_int_equal(d->vcpu[1]->info->evtchn_upcall_pending, 0);
    assert_int_equal(expand(array_page[0]), 0);
    assert_int_equal(d->vcpu[1]->info->evtchn_upcall_pending, 1);
    assert_int_equal(consume(0), a);
    assert_int_equal(consume(1), b);
    assert_int_equal(consume(1), 0);
}

/* --- delivery --- */

static void test_order(void **state)
{
    evtchn_port_t p[8];
    for (unsigned i = 0; i < 8; i++)
        p[i] = ipi(0);
    unsigned kicks = fake_kicks[1][0];
    for (unsigned i = 0; i < 8; i++)
        send(p[7 - i]);
    send(p[3]); /* pending already: once is enough */
    assert_int_equal(fake_kicks[1][0], kicks + 1);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(consume(0), p[7 - i]);
    assert_int_equal(consume(0), 0);
    send(p[7]); /* the old tail again, and behind an emptied queue */
    send(p[0]);
    assert_int_equal(consume(0), p[7]);
    assert_int_equal(consume(0), p[0]);
    assert_int_equal(consume(0), 0);
}

static void test_tail_alone(void **state)
{
    evtchn_port_t p = ipi(0), q = ipi(0);
    for (unsigned i = 0; i < 4; i++) {
        send(p);
        assert_int_equal(*word(p), BIT(PENDING) | BIT(LINKED)); /* never linked to itself */
        assert_int_equal(consume(0), p);
        assert_int_equal(*word(p), 0);
    }
    send(q); /* p, unlinked, was the tail: nothing of q may stay in it */
    assert_int_equal(*word(p), 0);
    assert_int_equal(consume(0), q);
}

static void test_priorities(void **state)
{
    evtchn_port_t low = ipi(0), high = ipi(0), usual = ipi(0);
    struct evtchn_set_priority s = {low, EVTCHN_FIFO_PRIORITY_MIN};
    assert_int_equal(op(EVTCHNOP_set_priority, &s), 0);
    s = (struct evtchn_set_priority){high, EVTCHN_FIFO_PRIORITY_MAX};
    assert_int_equal(op(EVTCHNOP_set_priority, &s), 0);
    s.priority = 16;
    assert_int_equal(op(EVTCHNOP_set_priority, &s), -XEN_EINVAL);
    s = (struct evtchn_set_priority){3000, 1};
    assert_int_equal(op(EVTCHNOP_set_priority, &s), -XEN_EINVAL);
    send(low);
    send(usual);
    send(high);
    assert_int_equal(control(0)->ready, 1u << 0 | 1u << 7 | 1u << 15);
    assert_int_equal(consume(0), high);
    assert_int_equal(consume(0), usual);
    assert_int_equal(consume(0), low);
    assert_int_equal(event_close(d, high), 0);
    assert_int_equal(ipi(0), high);
    send(high);
    assert_int_equal(control(0)->ready, 1u << 7); /* a new port starts at the default */
}

static void test_masked(void **state)
{
    evtchn_port_t p = ipi(0);
    *word(p) = BIT(MASKED);
    send(p);
    assert_int_equal(*word(p), BIT(MASKED) | BIT(PENDING));
    assert_int_equal(d->vcpu[0]->info->evtchn_upcall_pending, 0);
    struct evtchn_unmask u = {p};
    assert_int_equal(op(EVTCHNOP_unmask, &u), 0);
    assert_int_equal(consume(0), p);

    *word(p) = BIT(MASKED);
    assert_int_equal(op(EVTCHNOP_unmask, &u), 0); /* nothing pending: just unmasked */
    assert_int_equal(*word(p), 0);
    /* Masked while linked: consumed silently, and told again by the unmask. */
    send(p);
    *word(p) |= BIT(MASKED);
    assert_int_equal(consume(0), 0);
    assert_int_equal(op(EVTCHNOP_unmask, &u), 0);
    assert_int_equal(consume(0), p);
}

/* A port that was the tail of one queue moves to another. */
static void test_move(void **state)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    assert_int_equal(op(EVTCHNOP_alloc_unbound, &a), 0);
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF, .remote_port = a.port};
    assert_int_equal(op(EVTCHNOP_bind_interdomain, &b), 0);
    evtchn_port_t mover = a.port, near = b.local_port, stays = ipi(0), there = ipi(1);
    assert_int_equal(consume(0), near); /* told at the bind */

    send(stays);
    send(near);
    assert_int_equal(consume(0), stays);
    assert_int_equal(consume(0), mover); /* tail of queue (0, 7) */
    struct evtchn_bind_vcpu v = {mover, 1};
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &v), 0);
    send(there);
    send(near);
    send(stays); /* must not be linked behind the mover, which is LINKED elsewhere */
    assert_int_equal(consume(0), stays);
    assert_int_equal(consume(0), 0);
    assert_int_equal(consume(1), there);
    assert_int_equal(consume(1), mover);
    assert_int_equal(consume(1), 0);

    /* Still linked when it moves: it is told where it is, once. */
    send(near);
    v.vcpu = 2;
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &v), 0);
    send(near);
    assert_int_equal(consume(2), 0);
    assert_int_equal(consume(1), mover);
    send(near);
    assert_int_equal(consume(2), mover);
}

static void test_close(void **state)
{
    evtchn_port_t p = ipi(0), q = ipi(0);
    send(p);
    send(q);
    assert_int_equal(event_close(d, p), 0);
    assert_int_equal(consume(0), q); /* p is skipped: not pending any more */
    assert_int_equal(event_close(d, q), 0);
    assert_false(event_port_pending(d, q));
}

static void test_no_control_block(void **state)
{
    assert_int_equal(init_control(0, page_to_mfn(control_page).n, 0), 0);
    assert_int_equal(expand(array_page[0]), 0);
    evtchn_port_t p = ipi(2);
    send(p);
    assert_int_equal(*word(p), BIT(PENDING));
    assert_int_equal(init_control(2, page_to_mfn(control_page).n, 256), 0);
    send(p);
    assert_int_equal(consume(2), p);
}

/* --- bad guests --- */

/* Words and control block full of what cannot be: no access goes astray, nothing hangs. */
static void test_hostile_words(void **state)
{
    evtchn_port_t p[64];
    for (unsigned i = 0; i < 64; i++)
        p[i] = ipi(i % VCPUS);
    uint32_t seed = 1;
    for (unsigned round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < 64; i++) {
            seed = seed * 1664525 + 1013904223;
            *word(p[i]) = seed;
        }
        memset(control(round % VCPUS), round, 72);
        for (unsigned i = 0; i < 64; i++)
            send(p[i]);
        struct evtchn_unmask u = {p[round % 64]};
        assert_int_equal(op(EVTCHNOP_unmask, &u), 0);
    }
    /* Once it behaves again, so do we. */
    memset(page_to_virt(control_page), 0, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY; i++)
        memset(page_to_virt(array_page[i]), 0, PAGE_SIZE);
    memset(cached_head, 0, sizeof(cached_head));
    memset(cached_ready, 0, sizeof(cached_ready));
    for (unsigned i = 0; i < 64; i++)
        send(p[i]);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(consume(i % VCPUS), p[i]);
}

static volatile bool stop;

static int scribbler(void *arg)
{
    uint32_t seed = 7;
    while (!stop) {
        seed = seed * 1664525 + 1013904223;
        __atomic_store_n(word(seed >> 26), seed, __ATOMIC_RELAXED);
        __atomic_fetch_xor(&control(seed % VCPUS)->ready, seed, __ATOMIC_RELAXED);
    }
    return 0;
}

static int sender(void *arg)
{
    static struct cpu cpu;
    thread_cpu = &cpu;
    for (unsigned i = 0; i < 50000; i++)
        if (event_send(d, 1 + i % 60))
            return 1;
    return 0;
}

static void test_hostile_concurrently(void **state)
{
    thrd_t bad, other;
    int failed;
    for (unsigned i = 0; i < 60; i++)
        ipi(i % VCPUS);
    stop = false;
    assert_int_equal(thrd_create(&bad, scribbler, NULL), thrd_success);
    assert_int_equal(thrd_create(&other, sender, NULL), thrd_success);
    for (unsigned i = 0; i < 50000; i++) {
        send(1 + i % 60);
        if (i % 8)
            continue;
        struct evtchn_set_priority s = {1 + i % 60, i / 8 % 16}; /* queues change under way */
        assert_int_equal(op(EVTCHNOP_set_priority, &s), 0);
    }
    thrd_join(other, &failed);
    stop = true;
    thrd_join(bad, NULL);
    assert_int_equal(failed, 0);
}

/* Two senders, one well-behaved consumer: no event is lost. */
static void test_concurrent_delivery(void **state)
{
    thrd_t other;
    int failed;
    for (unsigned i = 0; i < 60; i++)
        ipi(0);
    senders_run = true;
    assert_int_equal(thrd_create(&other, sender, NULL), thrd_success);
    for (unsigned i = 0; i < 50000; i++) {
        send(1 + i % 60);
        if (i % 3 == 0)
            consume(0);
    }
    thrd_join(other, &failed);
    assert_int_equal(failed, 0);
    while (consume(0))
        continue;
    senders_run = false;
    for (evtchn_port_t p = 1; p <= 60; p++)
        assert_int_equal(*word(p), 0);
    for (evtchn_port_t p = 1; p <= 60; p++)
        send(p);
    for (evtchn_port_t p = 1; p <= 60; p++)
        assert_int_equal(consume(0), p);
}

/* --- the end --- */

/* A sender may still write the guest's pages after a reset: they stay ours for a grace period. */
static void test_reset_keeps_pages(void **state)
{
    evtchn_port_t p = ipi(0);
    struct fifo *f = d->event->fifo;
    struct channel *ch = channel_at(d->event, p);
    uint32_t refs = d->refs;
    struct evtchn_reset r = {.dom = DOMID_SELF};
    assert_int_equal(op(EVTCHNOP_reset, &r), 0);
    assert_int_equal(d->refs, refs + 1);
    assert_int_equal(array_page[0]->type & PAGE_TYPE_COUNT, 1);
    fifo_raise(f, ch);
    grace_over();
    assert_int_equal(d->refs, refs);
    assert_int_equal(array_page[0]->type & PAGE_TYPE_COUNT, 0);

    /* 2-level again, and FIFO once more from the start. */
    memset(page_to_virt(control_page), 0, PAGE_SIZE);
    memset(page_to_virt(array_page[0]), 0, PAGE_SIZE);
    memset(cached_ready, 0, sizeof(cached_ready));
    p = ipi(0);
    send(p);
    assert_true(d->shared->evtchn_pending[0] & 1u << p);
    fifo_on();
    assert_int_equal(consume(0), p);
}

#define TEST(f)    cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_ON(f) cmocka_unit_test_setup_teardown(f, setup_on, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_init_control),
        TEST(test_ports_beyond_two_level),
        TEST(test_early_events),
        TEST_ON(test_order),
        TEST_ON(test_tail_alone),
        TEST_ON(test_priorities),
        TEST_ON(test_masked),
        TEST_ON(test_move),
        TEST_ON(test_close),
        TEST(test_no_control_block),
        TEST_ON(test_hostile_words),
        TEST_ON(test_hostile_concurrently),
        TEST_ON(test_concurrent_delivery),
        TEST_ON(test_reset_keeps_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
