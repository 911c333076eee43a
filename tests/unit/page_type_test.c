/*
 * Page types: every move from every state, random moves against a plain model, the TLB flush rule,
 * and several CPUs at once.
 */
/* SOURCES: mm/page_type.c mm/page.c lib/bitmap.c lib/spinlock.c */
/* SOURCES: fake/alloc.c fake/cpu.c fake/domain.c */
/* LIBS: -lpthread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
/* The C library's name for something else than ours. */
#define sched_yield libc_sched_yield
#include <pthread.h>
#undef sched_yield
#include <unistd.h>

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "mm/internal.h"

/* --- a TLB model: who flushed when, by the clock's rules --- */

#define CPUS 4
static uint32_t tick = 1, last_flush[CPUS];
static unsigned flushes;

uint32_t tlb_stamp(void)
{
    return __atomic_load_n(&tick, __ATOMIC_SEQ_CST);
}
void tlb_filter(struct cpu_mask *mask, uint32_t stamp)
{
    for (unsigned i = 0; i < CPUS; i++)
        if (__atomic_load_n(&last_flush[i], __ATOMIC_SEQ_CST) > stamp)
            mask->bits[0] &= ~(1UL << i);
}
void tlb_flush_mask(const struct cpu_mask *mask)
{
    uint32_t now = __atomic_add_fetch(&tick, 1, __ATOMIC_SEQ_CST);
    fake_tlb_mask = *mask;
    __atomic_fetch_add(&flushes, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < CPUS; i++)
        if (mask->bits[0] >> i & 1)
            __atomic_store_n(&last_flush[i], now, __ATOMIC_SEQ_CST);
}

/* --- operations whose answers the test sets --- */

static int validate_answer;
static unsigned validated, invalidated;
static enum page_type last_type;

static int validate(struct page *page, enum page_type type)
{
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 1);
    assert_false(page->type & PAGE_TYPE_VALIDATED);
    __atomic_fetch_add(&validated, 1, __ATOMIC_RELAXED);
    last_type = type;
    return validate_answer;
}
static void invalidate(struct page *page, enum page_type type)
{
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 1);
    assert_false(page->type & PAGE_TYPE_VALIDATED);
    __atomic_fetch_add(&invalidated, 1, __ATOMIC_RELAXED);
    last_type = type;
}
static const struct cpu_mask *dirty(const struct domain *d)
{
    return &d->dirty_cpus;
}
static const struct page_type_ops ops = {validate, invalidate, dirty};

static struct domain *d;

static int setup(void **state)
{
    fake_ram_reset();
    fake_cpus_online(CPUS);
    d = fake_domain_new(1, 0, false);
    d->dirty_cpus.bits[0] = 3;
    page_type_ops = &ops;
    validate_answer = 0;
    validated = invalidated = flushes = 0;
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(fake_ram_free(), FAKE_FRAMES - 1);
    fake_domain_free(d);
    return 0;
}

static uint64_t count_of(const struct page *p)
{
    return p->type & PAGE_TYPE_COUNT;
}

/* From every type at count 0, 1 and 2 to every type, with contents that are valid or not. */
static void every_move(void **state)
{
    for (unsigned from = PAGE_NONE; from <= PAGE_WRITABLE; from++)
        for (unsigned uses = 0; uses <= 2; uses++)
            for (unsigned to = PAGE_L1; to <= PAGE_WRITABLE; to++)
                for (unsigned bad = 0; bad < 2; bad++) {
                    if (from == PAGE_NONE && uses)
                        continue;
                    struct page *p = fake_domain_page(d);
                    validate_answer = 0;
                    if (from != PAGE_NONE)
                        assert_int_equal(page_get_type(p, from), 0);
                    if (from != PAGE_NONE && uses == 0)
                        page_put_type(p);
                    if (uses == 2)
                        assert_int_equal(page_get_type(p, from), 0);
                    validated = invalidated = flushes = 0;
                    validate_answer = bad ? -XEN_EINVAL : 0;

                    int rc = page_get_type(p, to);
                    bool contents = to != PAGE_WRITABLE;
                    if (uses && from != to) {
                        assert_int_equal(rc, -XEN_EBUSY);
                        assert_int_equal(validated, 0);
                        assert_int_equal(count_of(p), uses);
                    } else if (uses) {
                        assert_int_equal(rc, 0);
                        assert_int_equal(validated, 0);
                        assert_int_equal(count_of(p), uses + 1);
                    } else {
                        assert_int_equal(rc, contents && bad ? -XEN_EINVAL : 0);
                        assert_int_equal(validated, contents);
                        assert_int_equal(count_of(p), rc ? 0 : 1);
                        /* Only between two uses that differ. */
                        assert_int_equal(flushes, from != PAGE_NONE && from != to);
                    }
                    assert_int_equal(invalidated, 0);
                    if (!rc)
                        assert_int_equal(page_type(p), to);
                    while (count_of(p))
                        page_put_type(p);
                    bool had = (uses && from != PAGE_WRITABLE) || (!uses && !rc && contents);
                    assert_int_equal(invalidated, had);
                    fake_domain_page_drop(p);
                }
}

static void fast(void **state)
{
    struct page *p = fake_domain_page(d);
    assert_int_equal(page_get_type_fast(p, PAGE_L1), -XEN_EBUSY); /* would have to be checked */
    assert_int_equal(page_get_type_fast(p, PAGE_WRITABLE), 0);
    assert_int_equal(page_get_type_fast(p, PAGE_L1), -XEN_EBUSY);
    page_put_type(p);
    assert_int_equal(page_get_type(p, PAGE_L1), 0);
    assert_int_equal(page_get_type_fast(p, PAGE_L1), 0);
    assert_int_equal(page_get_type_fast(p, PAGE_WRITABLE), -XEN_EBUSY);
    page_put_type(p);
    page_put_type(p);
    assert_int_equal(page_get_type_fast(p, PAGE_L1), -XEN_EBUSY);
    /* Somebody has the word alone. */
    p->type = (uint64_t)PAGE_L1 << PAGE_TYPE_SHIFT | 1;
    assert_int_equal(page_get_type_fast(p, PAGE_L1), -XEN_EAGAIN);
    assert_int_equal(page_get_type_fast(p, PAGE_L2), -XEN_EBUSY);
    p->type = 0;
    assert_int_equal(page_get_type(p, PAGE_NONE), -XEN_EINVAL);
    assert_int_equal(page_get_type(p, 7), -XEN_EINVAL);
    assert_int_equal(page_get_type_fast(p, PAGE_NONE), -XEN_EINVAL);
    /* The count does not wrap. */
    p->type = (uint64_t)PAGE_WRITABLE << PAGE_TYPE_SHIFT | PAGE_TYPE_VALIDATED | PAGE_TYPE_COUNT;
    assert_int_equal(page_get_type(p, PAGE_WRITABLE), -XEN_EBUSY);
    p->type = 0;
    fake_domain_page_drop(p);
}

/* Which CPUs are flushed when a frame changes its use. */
static void who_is_flushed(void **state)
{
    struct page *p = fake_domain_page(d);
    assert_int_equal(page_get_type(p, PAGE_WRITABLE), 0);
    page_put_type(p);
    assert_int_equal(page_get_type(p, PAGE_L1), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(fake_tlb_mask.bits[0], 3); /* where the owner ran */
    page_put_type(p);
    struct cpu_mask one = {{1}};
    tlb_flush_mask(&one); /* CPU 0 has flushed since, for another reason */
    assert_int_equal(page_get_type(p, PAGE_WRITABLE), 0);
    assert_int_equal(fake_tlb_mask.bits[0], 2);
    page_put_type(p);
    struct cpu_mask both = {{3}};
    tlb_flush_mask(&both);
    unsigned before = flushes;
    assert_int_equal(page_get_type(p, PAGE_L2), 0);
    assert_int_equal(flushes, before);
    page_put_type(p);
    /* Mapped writable by somebody else, too: anybody may remember. */
    assert_int_equal(page_get_type(p, PAGE_WRITABLE), 0);
    page_type_mark_foreign(p);
    page_put_type(p);
    assert_int_equal(page_get_type(p, PAGE_WRITABLE), 0);
    page_put_type(p);
    assert_int_equal(page_get_type(p, PAGE_L2), 0);
    assert_int_equal(fake_tlb_mask.bits[0], 15);
    page_put_type(p);
    assert_int_equal(page_get_type(p, PAGE_WRITABLE), 0);
    assert_int_equal(fake_tlb_mask.bits[0], 3);
    page_put_type(p);
    fake_domain_page_drop(p);
}

static void pins(void **state)
{
    struct page *p = fake_domain_page(d);
    assert_false(page_type_unpin(p));
    assert_int_equal(page_get_and_type(p, d, PAGE_L4), 0);
    assert_true(page_type_pin(p));
    assert_false(page_type_pin(p));
    assert_int_equal(page_get_type(p, PAGE_L4), 0);
    page_put_type(p);
    fake_panic_expected = true;
    expect_assert_failure(page_put_type(p)); /* the pin's */
    fake_panic_expected = false;
    assert_true(page_type_unpin(p));
    assert_false(page_type_unpin(p));
    page_put_and_type(p);
    fake_panic_expected = true;
    expect_assert_failure(page_put_type(p));
    fake_panic_expected = false;
    fake_domain_page_drop(p);
}

static void wrong_owner(void **state)
{
    struct domain *other = fake_domain_new(2, 0, false);
    page_type_ops = &ops; /* the fake sets its own */
    struct page *p = fake_domain_page(d);
    assert_int_equal(page_get_and_type(p, other, PAGE_L1), -XEN_EINVAL);
    validate_answer = -XEN_EPERM;
    assert_int_equal(page_get_and_type(p, d, PAGE_L1), -XEN_EPERM);
    assert_int_equal(p->refs, PAGE_REF_ALLOCATED | 1);
    fake_domain_page_drop(p);
    fake_domain_free(other);
}

static void against_model(void **state)
{
    enum { PAGES = 4 };
    struct page *p[PAGES];
    struct {
        unsigned type, uses;
    } model[PAGES] = {0};
    srand(11);
    for (unsigned i = 0; i < PAGES; i++)
        p[i] = fake_domain_page(d);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned i = rand() % PAGES, type = PAGE_L1 + rand() % PAGE_WRITABLE;
        validate_answer = rand() % 4 ? 0 : -XEN_EINVAL;
        if (model[i].uses && rand() % 2) {
            page_put_type(p[i]);
            model[i].uses--;
        } else {
            int want = 0;
            if (model[i].uses && model[i].type != type)
                want = -XEN_EBUSY;
            else if (!model[i].uses && type != PAGE_WRITABLE)
                want = validate_answer;
            assert_int_equal(page_get_type(p[i], type), want);
            if (!want) {
                model[i].type = type;
                model[i].uses++;
            }
        }
        assert_int_equal(count_of(p[i]), model[i].uses);
        if (model[i].uses) {
            assert_int_equal(page_type(p[i]), model[i].type);
            assert_true(p[i]->type & PAGE_TYPE_VALIDATED);
        }
    }
    for (unsigned i = 0; i < PAGES; i++) {
        while (model[i].uses--)
            page_put_type(p[i]);
        fake_domain_page_drop(p[i]);
    }
}

/* --- several CPUs --- */

enum { RACERS = CPUS, RACE_PAGES = 3, ROUNDS = 8000 };
static struct page *raced[RACE_PAGES];
static int users[RACE_PAGES][PAGE_WRITABLE + 1]; /* uses that threads believe they have */
static int alone[RACE_PAGES];                    /* in validate or invalidate */
static unsigned races_lost;

static int race_validate(struct page *page, enum page_type type)
{
    for (unsigned i = 0; i < RACE_PAGES; i++)
        if (raced[i] == page) {
            races_lost += __atomic_fetch_add(&alone[i], 1, __ATOMIC_SEQ_CST) != 0;
            for (unsigned t = 0; t <= PAGE_WRITABLE; t++)
                races_lost += __atomic_load_n(&users[i][t], __ATOMIC_SEQ_CST) != 0;
            usleep(0);
            __atomic_fetch_sub(&alone[i], 1, __ATOMIC_SEQ_CST);
        }
    return __atomic_load_n(&tick, __ATOMIC_RELAXED) % 5 ? 0 : -XEN_EINVAL;
}
static void race_invalidate(struct page *page, enum page_type type)
{
    (void)!race_validate(page, type);
}

static void *racer(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (unsigned n = 0; n < ROUNDS; n++) {
        unsigned i = rand_r(&seed) % RACE_PAGES;
        enum page_type type = rand_r(&seed) % 2 ? PAGE_WRITABLE : PAGE_L1 + rand_r(&seed) % 4;
        bool quick = rand_r(&seed) % 4 == 0;
        int rc = quick ? page_get_type_fast(raced[i], type) : page_get_type(raced[i], type);
        if (rc)
            continue;
        __atomic_fetch_add(&users[i][type], 1, __ATOMIC_SEQ_CST);
        for (unsigned t = PAGE_L1; t <= PAGE_WRITABLE; t++)
            if (t != type && __atomic_load_n(&users[i][t], __ATOMIC_SEQ_CST))
                __atomic_fetch_add(&races_lost, 1, __ATOMIC_RELAXED);
        if (rand_r(&seed) % 8 == 0)
            usleep(0);
        __atomic_fetch_sub(&users[i][type], 1, __ATOMIC_SEQ_CST);
        page_put_type(raced[i]);
    }
    return NULL;
}

static void race(void **state)
{
    static const struct page_type_ops race_ops = {race_validate, race_invalidate, dirty};
    pthread_t thread[RACERS];
    page_type_ops = &race_ops;
    for (unsigned i = 0; i < RACE_PAGES; i++)
        raced[i] = fake_domain_page(d);
    for (unsigned i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, racer, (void *)(uintptr_t)(i + 1)), 0);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(races_lost, 0);
    for (unsigned i = 0; i < RACE_PAGES; i++) {
        assert_int_equal(count_of(raced[i]), 0);
        fake_domain_page_drop(raced[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_move, setup, teardown),
        cmocka_unit_test_setup_teardown(fast, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_flushed, setup, teardown),
        cmocka_unit_test_setup_teardown(pins, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(against_model, setup, teardown),
        cmocka_unit_test_setup_teardown(race, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
