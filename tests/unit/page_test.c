/* Ownership and references: assignment, limits, the owner's list, sharing, the last reference. */
/* SOURCES: mm/page.c lib/bitmap.c lib/spinlock.c fake/alloc.c fake/cpu.c fake/domain.c */
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

static struct domain *d, *other;

static int setup(void **state)
{
    fake_ram_reset();
    d = fake_domain_new(1, 0, false);
    other = fake_domain_new(2, 0, false);
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(fake_ram_free(), FAKE_FRAMES - 1);
    assert_int_equal(d->page_list, 0);
    assert_int_equal(d->page_list_done, 0);
    fake_domain_free(d);
    fake_domain_free(other);
    return 0;
}

static unsigned list_length(uint32_t head)
{
    unsigned n = 0;
    uint32_t before = 0;
    for (uint32_t f = head; f; f = mfn_to_page(mfn(f))->next, n++) {
        assert_int_equal(mfn_to_page(mfn(f))->prev, before);
        before = f;
    }
    return n;
}

static void life(void **state)
{
    struct page *p = page_alloc(0, 0);
    assert_false(page_get(p, d));
    assert_false(page_get_any(p));
    assert_int_equal(page_assign(d, p, 0), 0);
    assert_int_equal(p->refs, PAGE_REF_ALLOCATED | 1);
    assert_int_equal(d->tot_pages, 1);
    assert_int_equal(d->refs, 2); /* one for having pages */
    assert_true(page_get(p, d));
    assert_false(page_get(p, other));
    assert_true(page_get_any(p));
    page_put(p);

    m2p_set(page_to_mfn(p), 77);
    assert_true(page_drop_allocation(p));
    assert_false(page_drop_allocation(p));
    page_put(p);
    assert_int_equal(d->tot_pages, 1); /* our reference holds it */
    assert_true(page_get(p, d));
    page_put(p);
    page_put(p);
    assert_int_equal(d->tot_pages, 0);
    assert_int_equal(d->refs, 1);
    assert_false(page_get(p, d));
    assert_true(m2p_get(page_to_mfn(p)) == M2P_INVALID);
    assert_int_not_equal(p->tlb_stamp, 0);
}

static void refusals(void **state)
{
    struct page *p = page_alloc(0, 0);
    d->max_pages = 0;
    assert_int_equal(page_assign(d, p, 0), -XEN_E2BIG);
    d->max_pages = 1;
    d->dying = true;
    assert_int_equal(page_assign(d, p, 0), -XEN_EINVAL);
    assert_int_equal(p->refs, 1);
    assert_null(p->owner);
    assert_int_equal(d->refs, 1);
    page_free(p, 0);
}

static void saturation(void **state)
{
    struct page *p = fake_domain_page(d);
    p->refs = PAGE_REF_ALLOCATED | (PAGE_REF_COUNT - 1);
    assert_true(page_get(p, d));
    assert_false(page_get(p, d));
    assert_false(page_get_any(p));
    assert_int_equal(p->refs, PAGE_REF_ALLOCATED | PAGE_REF_COUNT);
    p->refs = PAGE_REF_ALLOCATED | 1;
    fake_domain_page_drop(p);
}

/* What a dying domain has goes by rows, up or down, around a page that somebody refers to. */
static void release(bool up)
{
    struct page *p[20];
    unsigned gone = 0, rows = 0, n;
    for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
        p[i] = page_alloc(0, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
        assert_int_equal(page_assign(d, p[up ? ARRAY_SIZE(p) - 1 - i : i], 0), 0);
    struct page *head = up ? p[0] : p[19], *held = up ? p[12] : p[7];
    assert_ptr_equal(mfn_to_page(mfn(d->page_list)), head);
    assert_true(page_get(held, d));

    for (; (n = page_list_release(d)); rows++)
        gone += n;
    assert_int_equal(gone, 12);
    assert_in_range(rows, 1, 2); /* two where the fake allocator begins anew */
    assert_int_equal(d->tot_pages, 8);
    assert_false(page_get(head, d));
    assert_null(head->owner);
    assert_true(head->tlb_stamp);
    assert_ptr_equal(mfn_to_page(mfn(d->page_list)), held);
    assert_int_equal(list_length(d->page_list), 8);

    page_list_mark_done(d, held);
    while ((n = page_list_release(d)))
        gone += n;
    assert_int_equal(gone, 19);
    assert_int_equal(d->refs, 2);
    page_put(held);
    fake_domain_page_drop(held);
    assert_int_equal(d->refs, 1);
}

static void release_rows(void **state)
{
    release(true);
    release(false);
}

/* Random removals keep both lists whole. */
static void lists(void **state)
{
    struct page *p[100];
    unsigned done = 0, left = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
        p[i] = fake_domain_page(d);
    assert_int_equal(list_length(d->page_list), 100);
    srand(3);
    for (unsigned i = 0; i < ARRAY_SIZE(p); i++) {
        switch (rand() % 3) {
        case 0:
            page_list_mark_done(d, p[i]);
            done++;
            break;
        case 1:
            fake_domain_page_drop(p[i]);
            p[i] = NULL;
            break;
        default:
            left++;
        }
        assert_int_equal(list_length(d->page_list_done), done);
    }
    assert_int_equal(list_length(d->page_list), left);
    assert_int_equal(d->tot_pages, left + done);
    for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
        if (p[i])
            fake_domain_page_drop(p[i]);
}

static void sharing(void **state)
{
    struct page *p = page_alloc(0, 0);
    page_share(d, p);
    assert_int_equal(d->tot_pages, 0);
    assert_int_equal(p->refs, PAGE_REF_STATIC | 1);
    assert_int_equal(page_type(p), PAGE_WRITABLE); /* and stays that */
    assert_int_equal(p->type & PAGE_TYPE_COUNT, 1);
    assert_true(page_get(p, d));
    assert_false(page_unshare(d, p)); /* still mapped */
    assert_false(page_unshare(other, p));
    assert_false(page_drop_allocation(p)); /* a guest's attempt to free it */
    page_put(p);
    assert_false(page_unshare(other, p));
    assert_true(page_unshare(d, p));
    assert_null(p->owner);
    assert_int_not_equal(p->tlb_stamp, 0);
    assert_false(page_get(p, d));
    page_free(p, 0);
}

static void pool(void **state)
{
    struct page *p = page_alloc(0, 0), *q = page_alloc(0, 0);
    d->max_pages = 1;
    assert_int_equal(page_assign_pooled(d, p, 0), 0);
    assert_int_equal(page_assign_pooled(d, q, 0), -XEN_E2BIG);
    page_free(q, 0);
    assert_int_equal(d->tot_pages, 1); /* counted, but nowhere to be found */
    assert_int_equal(d->page_list, 0);
    assert_false(page_get(p, d));
    page_unpool(p);
    assert_false(page_get(p, d));
    page_thaw(p);
    assert_int_equal(d->page_list, page_to_mfn(p).n);
    assert_true(page_get(p, d));
    assert_true(page_freeze(p));
    page_pool(p);
    assert_int_equal(d->page_list, 0);
    assert_int_not_equal(p->tlb_stamp, 0);
    page_unpool(p);
    page_thaw_writable(p);
    assert_int_equal(p->refs, PAGE_REF_ALLOCATED | 2);
    assert_int_equal(page_type(p), PAGE_WRITABLE);
    assert_int_equal(p->type & PAGE_TYPE_COUNT, 1);
    assert_true(page_freeze(p));
    p->type = 0;
    page_release_frozen(p);
    assert_int_equal(d->tot_pages, 0);
}

static void too_many_puts(void **state)
{
    struct page *p = page_alloc(0, 0);
    page_share(d, p);
    fake_panic_expected = true;
    expect_assert_failure(page_put(p));
    fake_panic_expected = false;
    p->refs = PAGE_REF_STATIC | 1;
    assert_true(page_unshare(d, p));
    page_free(p, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(life, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(saturation, setup, teardown),
        cmocka_unit_test_setup_teardown(release_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(lists, setup, teardown),
        cmocka_unit_test_setup_teardown(sharing, setup, teardown),
        cmocka_unit_test_setup_teardown(pool, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_puts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
