/* Frame allocator against a plain model; zeroing, TLB flushes before reuse, claims, limits. */
/* SOURCES: mm/buddy.c mm/page.c lib/bitmap.c lib/spinlock.c lib/string.c */
/* SOURCES: fake/alloc.c fake/cpu.c fake/domain.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "mm/internal.h"

uint64_t ram_total;

#define FIRST LOW_FRAMES
#define COUNT (FAKE_FRAMES - FIRST)

/* A flush clock of one CPU, as cpu/tlb.c has it. */
static uint32_t now = 1, flushed;

uint32_t tlb_stamp(void)
{
    return now;
}
void tlb_filter(struct cpu_mask *mask, uint32_t stamp)
{
    if (flushed > stamp)
        mask->bits[0] = 0;
}
void tlb_flush_mask(const struct cpu_mask *mask)
{
    fake_tlb_flushes++;
    flushed = ++now;
}

/* The allocator has static state: a test gives everything back, and this takes stock. */
static int setup(void **state)
{
    static bool added;
    if (!added) {
        memset(fake_ram, 0xaa, FAKE_FRAMES * PAGE_SIZE);
        buddy_add_range(mfn(1), FAKE_FRAMES - 1); /* the first 1 MiB is refused */
        ram_total = COUNT;
        added = true;
    }
    assert_int_equal(buddy_free_pages(), COUNT);
    fake_tlb_flushes = 0;
    srand(1);
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(buddy_free_pages(), COUNT);
    assert_int_equal(buddy_outstanding_claims(), 0);
    /* All has merged again: the largest aligned block is there in one piece. */
    struct page *p = page_alloc(10, 0);
    assert_non_null(p);
    assert_int_equal(page_to_mfn(p).n, 1024);
    assert_null(page_alloc(10, 0));
    page_free(p, 10);
    return 0;
}

struct block {
    struct page *page;
    unsigned order;
};

/* A block taken out of the middle of a free one; the rest stays to be had. */
static void at_a_place(void **state)
{
    uint64_t free = buddy_free_pages();
    assert_null(page_alloc_at(mfn(1025), 1, 0)); /* not aligned */
    assert_null(page_alloc_at(mfn(16), 0, 0));   /* the first 1 MiB */
    assert_null(page_alloc_at(mfn(FAKE_FRAMES), 0, 0));
    struct page *p = page_alloc_at(mfn(1030), 1, ALLOC_ZERO);
    assert_ptr_equal(p, mfn_to_page(mfn(1030)));
    assert_int_equal(buddy_free_pages(), free - 2);
    assert_int_equal(p->refs, 1);
    assert_int_equal(*(uint64_t *)page_to_virt(p + 1), 0);
    assert_null(page_alloc_at(mfn(1030), 1, 0));
    assert_null(page_alloc_at(mfn(1031), 0, 0));
    assert_null(page_alloc_at(mfn(1024), 3, 0)); /* a part is taken */
    struct page *before = page_alloc_at(mfn(1028), 1, 0), *rest = page_alloc_at(mfn(1024), 2, 0);
    assert_non_null(before);
    assert_non_null(rest);
    page_free(p, 1);
    page_free(rest, 2);
    page_free(before, 1);
}

static void against_model(void **state)
{
    static uint8_t used[FAKE_FRAMES];
    static struct block block[512];
    unsigned blocks = 0;
    uint64_t free = COUNT;
    memset(used, 0, sizeof(used));
    for (unsigned step = 0; step < 40000; step++) {
        if (blocks < 512 && rand() % 2) {
            unsigned order = rand() % 3 ? rand() % 3 : rand() % 9;
            unsigned flags = rand() % 2 ? ALLOC_ZERO : 0;
            unsigned width = rand() % 4 ? 0 : 21 + rand() % 3;
            struct page *p = page_alloc_for(NULL, order, flags, width, NULL);
            if (!p) {
                assert_true(width || free < COUNT); /* never with all of it free */
                continue;
            }
            uint64_t first = page_to_mfn(p).n, n = 1UL << order;
            assert_int_equal(first % n, 0);
            assert_true(first >= FIRST && first + n <= FAKE_FRAMES);
            assert_true(!width || (first + n) << PAGE_SHIFT <= 1UL << width);
            assert_int_equal(p->refs, 1);
            for (uint64_t i = 0; i < n; i++) {
                assert_false(used[first + i]);
                used[first + i] = 1;
                assert_true(p[i].type == 0 && !p[i].owner);
                uint64_t *word = page_to_virt(&p[i]);
                for (unsigned w = 0; (flags & ALLOC_ZERO) && w < 512; w++)
                    assert_int_equal(word[w], 0);
                word[rand() % 512] = ~0UL;
            }
            block[blocks++] = (struct block){p, order};
            free -= n;
        } else if (rand() % 8 == 0) {
            buddy_scrub();
        } else if (blocks) {
            unsigned i = rand() % blocks;
            uint64_t first = page_to_mfn(block[i].page).n, n = 1UL << block[i].order;
            memset(&used[first], 0, n);
            page_free(block[i].page, block[i].order);
            free += n;
            block[i] = block[--blocks];
        }
        assert_int_equal(buddy_free_pages(), free);
    }
    while (blocks--)
        page_free(block[blocks].page, block[blocks].order);
}

/* With many requests of one frame nothing is handed out twice and nothing is left over. */
static void to_the_last(void **state)
{
    static struct page *p[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = page_alloc(0, 0);
        assert_non_null(p[i]);
    }
    assert_null(page_alloc(0, 0));
    assert_int_equal(buddy_free_pages(), 0);
    for (unsigned i = 0; i < COUNT; i += 2)
        page_free(p[i], 0);
    assert_null(page_alloc(1, 0)); /* high zones first: neighbours were given out in order */
    for (unsigned i = 1; i < COUNT; i += 2)
        page_free(p[i], 0);
}

static void limits(void **state)
{
    assert_null(page_alloc(BUDDY_MAX_ORDER + 1, 0));
    assert_null(page_alloc(BUDDY_MAX_ORDER, 0));
    assert_null(page_alloc_for(NULL, 0, 0, 12, NULL));
    assert_null(page_alloc_for(NULL, 0, 0, 20, NULL)); /* only the first 1 MiB lies below */
    struct page *p = page_alloc_for(NULL, 0, 0, 21, NULL);
    assert_non_null(p);
    assert_true(page_to_mfn(p).n < 512);
    page_free(p, 0);
    /* Without a limit memory with few address bits is kept. */
    p = page_alloc(0, ALLOC_BELOW_4G);
    assert_true(page_to_mfn(p).n >= 1024);
    page_free(p, 0);
}

static void wrong_frees(void **state)
{
    struct page *p = page_alloc(1, 0);
    fake_panic_expected = true;
    expect_assert_failure(page_free(p + 1, 1));
    page_free(p, 1);
    expect_assert_failure(page_free(p, 1));
    fake_panic_expected = false;
}

/* A frame that a guest had is flushed out of the TLBs before it is cleared and used again. */
static void flush_before_reuse(void **state)
{
    struct domain *d = fake_domain_new(1, 0, false);
    struct page *p = page_alloc(0, ALLOC_ZERO);
    assert_int_equal(page_assign(d, p, 0), 0);
    assert_int_equal(fake_tlb_flushes, 0);
    memset(page_to_virt(p), 0x55, PAGE_SIZE);
    fake_domain_page_drop(p);

    struct page *all = NULL, *q;
    bool again = false;
    while ((q = page_alloc(0, 0)) != NULL) {
        q->links = all ? page_to_mfn(all).n : 0;
        all = q;
        again |= q == p;
        assert_int_equal(fake_tlb_flushes, again ? 1 : 0);
    }
    assert_true(again);
    while (all) {
        q = all->links ? mfn_to_page(mfn(all->links)) : NULL;
        page_free(all, 0);
        all = q;
    }
    /* The hypervisor's own use leaves no trace. */
    q = page_alloc(10, 0);
    page_free(q, 10);
    assert_int_equal(fake_tlb_flushes, 1);
    /* One flush covers all that was freed before it. */
    struct page *a = page_alloc(0, 0), *b = page_alloc(0, 0);
    assert_int_equal(page_assign(d, a, 0), 0);
    assert_int_equal(page_assign(d, b, 0), 0);
    fake_domain_page_drop(a);
    fake_domain_page_drop(b);
    a = page_alloc(0, 0);
    b = page_alloc(0, 0);
    assert_int_equal(fake_tlb_flushes, 2);
    page_free(a, 0);
    page_free(b, 0);
    /* A page of ours that a guest could see. */
    a = page_alloc(0, 0);
    page_share(d, a);
    assert_true(page_unshare(d, a));
    page_free(a, 0);
    a = page_alloc(0, 0);
    assert_int_equal(fake_tlb_flushes, 3);
    page_free(a, 0);
    fake_domain_free(d);
}

static bool is_zero(const struct page *p)
{
    const uint64_t *word = page_to_virt(p);
    for (unsigned w = 0; w < 512; w++)
        if (word[w])
            return false;
    return true;
}

static void scrub_all(void)
{
    while (buddy_scrub())
        ;
}

/* What is free becomes zero where it is, and nothing else does. */
static void scrubbing(void **state)
{
    struct page *ours = page_alloc(3, ALLOC_ZERO), *freed = page_alloc(4, 0);
    memset(page_to_virt(ours), 0x55, 8 * PAGE_SIZE);
    memset(page_to_virt(freed), 0x55, 16 * PAGE_SIZE);
    page_free(freed, 4);
    scrub_all();
    for (uint64_t f = FIRST; f < FAKE_FRAMES; f++) {
        struct page *p = mfn_to_page(mfn(f));
        if (p >= ours && p < ours + 8)
            assert_int_equal(*(uint8_t *)page_to_virt(p), 0x55);
        else
            assert_true(is_zero(p) && !(p->type & FREE_DIRTY));
    }
    assert_false(buddy_scrub());
    /* What is zero is not cleared once more. */
    uint64_t before = this_cpu()->counters[TRACE_pages_scrubbed];
    struct page *p = page_alloc(6, ALLOC_ZERO);
    assert_int_equal(this_cpu()->counters[TRACE_pages_scrubbed], before);
    page_free(p, 6);
    page_free(ours, 3);
}

/* Nobody is disturbed for a few frames; for many, the TLBs are flushed once, and before. */
static void scrubbing_flushes(void **state)
{
    struct domain *d = fake_domain_new(1, 0, false);
    struct page *p[300];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 300; i++) {
            p[i] = page_alloc(0, 0);
            assert_int_equal(page_assign(d, p[i], 0), 0);
            memset(page_to_virt(p[i]), 0x55, PAGE_SIZE);
        }
        fake_tlb_flushes = 0;
        fake_domain_page_drop(p[0]);
        scrub_all();
        if (round) { /* in the first one others have come back before */
            assert_false(is_zero(p[0]));
            assert_int_equal(fake_tlb_flushes, 0);
        }
        for (unsigned i = 1; i < 300; i++)
            fake_domain_page_drop(p[i]);
        scrub_all();
        for (unsigned i = 0; i < 300; i++)
            assert_true(is_zero(p[i]));
        assert_true(fake_tlb_flushes == 1 || !round);
    }
    fake_domain_free(d);
}

static void claims(void **state)
{
    struct domain *d = fake_domain_new(1, 0, false), *other = fake_domain_new(2, 0, false);
    assert_int_equal(buddy_claim(d, COUNT + 1), -XEN_ENOMEM);
    d->max_pages = 100;
    assert_int_equal(buddy_claim(d, 101), -XEN_EINVAL);
    d->max_pages = COUNT;
    assert_int_equal(buddy_claim(d, COUNT - 4), 0);
    assert_int_equal(buddy_claim(d, COUNT - 4), -XEN_EINVAL); /* one at a time */
    assert_int_equal(buddy_claim(other, 5), -XEN_ENOMEM);
    assert_int_equal(buddy_outstanding_claims(), COUNT - 4);

    /* Others get what is not promised. */
    uint64_t claimed = 9;
    assert_null(page_alloc_for(other, 3, 0, 0, &claimed));
    struct page *p = page_alloc_for(other, 2, 0, 0, &claimed);
    assert_non_null(p);
    assert_int_equal(claimed, 0);
    assert_int_equal(page_assign(other, p, 2), 0);
    assert_null(page_alloc_for(other, 0, 0, 0, &claimed));
    /* The claimer uses its claim up, from the moment that a frame is on its way. */
    struct page *q = page_alloc_for(d, 1, 0, 0, &claimed);
    assert_int_equal(claimed, 2);
    assert_int_equal(buddy_outstanding_claims(), COUNT - 6);
    buddy_claim_return(d, claimed);
    page_free(q, 1);
    assert_int_equal(d->claimed, COUNT - 4);
    assert_null(page_alloc_for(d, 0, 0, 0, NULL)); /* beside its claim */
    q = page_alloc_for(d, 0, 0, 0, &claimed);
    assert_int_equal(page_assign(d, q, 0), 0);
    assert_int_equal(d->claimed, COUNT - 5);
    assert_int_equal(buddy_outstanding_claims(), COUNT - 5);
    assert_int_equal(buddy_claim(d, 0), 0);
    assert_int_equal(buddy_claim(d, 1), -XEN_EINVAL); /* it has that already */
    assert_int_equal(buddy_claim(d, 3), 0);           /* in total */
    assert_int_equal(d->claimed, 2);
    assert_int_equal(buddy_claim(d, 0), 0);
    d->dying = true;
    assert_int_equal(buddy_claim(d, 5), -XEN_EINVAL);
    buddy_claim_return(d, 1);
    assert_int_equal(d->claimed, 0);

    fake_domain_page_drop(q);
    for (unsigned i = 0; i < 4; i++)
        fake_domain_page_drop(p + i);
    fake_domain_free(d);
    fake_domain_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(at_a_place, setup, teardown),
        cmocka_unit_test_setup_teardown(against_model, setup, teardown),
        cmocka_unit_test_setup_teardown(to_the_last, setup, teardown),
        cmocka_unit_test_setup_teardown(limits, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_frees, setup, teardown),
        cmocka_unit_test_setup_teardown(flush_before_reuse, setup, teardown),
        cmocka_unit_test_setup_teardown(scrubbing, setup, teardown),
        cmocka_unit_test_setup_teardown(scrubbing_flushes, setup, teardown),
        cmocka_unit_test_setup_teardown(claims, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
