/* Small objects: contents, no overlap, everything given back, misuse found. */
/* SOURCES: mm/slab.c lib/bitmap.c lib/spinlock.c fake/cpu.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "mm/internal.h"

/* Frames by the block, never reused within a test. */
#define FRAMES 8192
static uint8_t ram[FRAMES][PAGE_SIZE] __attribute__((aligned(4096)));
static struct page frames[FRAMES];
uint8_t *fake_ram = ram[0];
struct page *frame_table = frames;
static unsigned next, live;
static bool no_memory;

struct page *page_alloc(unsigned order, unsigned flags)
{
    next = ROUND_UP(next, 1u << order);
    if (no_memory || next + (1u << order) > FRAMES)
        return NULL;
    struct page *p = &frames[next];
    memset(ram[next], flags & ALLOC_ZERO ? 0 : 0xee, PAGE_SIZE << order);
    p->refs = 1;
    next += 1u << order;
    live += 1u << order;
    return p;
}
void page_free(struct page *page, unsigned order)
{
    assert_int_equal(page->refs, 1);
    assert_int_equal(page->type, 0);
    page->refs = 0;
    memset(ram[page - frames], 0xee, PAGE_SIZE << order);
    live -= 1u << order;
}

static void sizes(void **state)
{
    unsigned before = live;
    for (size_t n = 0; n < 5000; n += n < 2200 ? 1 : 97) {
        uint8_t *p = zalloc(n);
        assert_non_null(p);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
        zfree(p);
    }
    void *p = zalloc(1UL << 20);
    assert_non_null(p);
    zfree(p);
    assert_null(zalloc((1UL << 20) + 1));
    zfree(NULL);
    assert_int_equal(live, before); /* empty pages go back at once */
}

static void arrays(void **state)
{
    assert_null(zalloc_array(1UL << 63, 4));
    assert_null(zalloc_array(~0UL, ~0UL));
    void *p = zalloc_array(3, 5);
    assert_non_null(p);
    zfree(p);
}

static void random_use(void **state)
{
    static struct {
        uint8_t *p;
        size_t n;
        uint8_t fill;
    } obj[700];
    unsigned before = live;
    for (unsigned step = 0; step < 60000; step++) {
        unsigned i = rand() % ARRAY_SIZE(obj);
        if (!obj[i].p) {
            obj[i].n = rand() % (rand() % 8 ? 300 : 2040);
            obj[i].fill = rand();
            obj[i].p = zalloc(obj[i].n);
            if (!obj[i].p)
                continue; /* the test's RAM is used up */
            assert_int_equal((uint64_t)obj[i].p % 16, 0);
            for (size_t b = 0; b < obj[i].n; b++)
                assert_int_equal(obj[i].p[b], 0);
            memset(obj[i].p, obj[i].fill, obj[i].n);
        } else {
            for (size_t b = 0; b < obj[i].n; b++)
                assert_int_equal(obj[i].p[b], obj[i].fill);
            zfree(obj[i].p);
            obj[i].p = NULL;
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(obj); i++)
        zfree(obj[i].p);
    assert_int_equal(live, before);
}

static void out_of_memory(void **state)
{
    void *p[300];
    unsigned n = 0;
    no_memory = true;
    while (n < 300 && (p[n] = zalloc(900)) != NULL)
        n++;
    assert_true(n < 300);
    assert_null(zalloc(100000));
    no_memory = false;
    p[n] = zalloc(900);
    assert_non_null(p[n]);
    for (unsigned i = 0; i <= n; i++)
        zfree(p[i]);
}

static void misuse(void **state)
{
    uint8_t *p = zalloc(100);
    fake_panic_expected = true;
    expect_assert_failure(zfree(p + 16)); /* not the start of an object */
    uint8_t kept = p[120];
    p[120] = 1; /* 100 bytes and the word behind them live in 128 */
    expect_assert_failure(zfree(p));
    p[120] = kept;
    zfree(p);
    expect_assert_failure(zfree(p));               /* twice */
    expect_assert_failure(zfree(ram[FRAMES - 1])); /* never allocated */
    fake_panic_expected = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),         cmocka_unit_test(arrays), cmocka_unit_test(random_use),
        cmocka_unit_test(out_of_memory), cmocka_unit_test(misuse),
    };
    srand(5);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
