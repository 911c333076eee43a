/*
 * zalloc() and single frames for tests on the host, with injected failures: the nth allocation from
 * now on answers NULL. Frames come from one block of fake RAM, handed out round robin so that a
 * stale use of a freed frame shows. All symbols are weak. mm/page.c and mm/page_type.c can be linked
 * above this: buddy_return() is here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake/alloc.h"
#include "lib/compiler.h"
#include "mm/internal.h"

#define WEAK __attribute__((weak))

static uint8_t ram[FAKE_FRAMES][PAGE_SIZE] __attribute__((aligned(4096)));
static struct page frames[FAKE_FRAMES];
static uint64_t m2p[FAKE_FRAMES];
static bool taken[FAKE_FRAMES];
static unsigned next;

WEAK uint8_t *fake_ram = ram[0];
WEAK struct page *frame_table = frames;
WEAK uint64_t *fake_m2p = m2p;
WEAK uint64_t max_mfn = FAKE_FRAMES;

WEAK unsigned fake_alloc_fail_in;
WEAK unsigned fake_alloc_live;

static bool fails(void)
{
    return fake_alloc_fail_in && --fake_alloc_fail_in == 0;
}

WEAK void *zalloc(size_t size)
{
    void *p = fails() ? NULL : calloc(1, size);
    if (p)
        __atomic_fetch_add(&fake_alloc_live, 1, __ATOMIC_RELAXED);
    return p;
}

WEAK void *zalloc_array(size_t n, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(n, size, &bytes) ? NULL : zalloc(bytes);
}

WEAK void zfree(void *p)
{
    if (p)
        __atomic_fetch_sub(&fake_alloc_live, 1, __ATOMIC_RELAXED);
    free(p);
}

/* --- frames --- */

WEAK bool mfn_is_ram(mfn_t m)
{
    return m.n > 0 && m.n < FAKE_FRAMES;
}

WEAK void fake_ram_reset(void)
{
    memset(frames, 0, sizeof(frames));
    memset(taken, 0, sizeof(taken));
    for (unsigned i = 0; i < FAKE_FRAMES; i++)
        m2p[i] = M2P_INVALID;
    next = 0;
}

WEAK unsigned fake_ram_free(void)
{
    unsigned n = 0;
    for (unsigned i = 1; i < FAKE_FRAMES; i++)
        n += !taken[i];
    return n;
}

WEAK struct page *page_alloc(unsigned order, unsigned flags)
{
    if (order || fails())
        return NULL;
    for (unsigned i = 0; i < FAKE_FRAMES; i++) {
        next = next % (FAKE_FRAMES - 1) + 1;
        if (taken[next])
            continue;
        taken[next] = true;
        frames[next] = (struct page){.refs = 1};
        memset(ram[next], 0, PAGE_SIZE);
        fake_alloc_live++;
        return &frames[next];
    }
    return NULL;
}

static void give_back(struct page *page)
{
    taken[page - frames] = false;
    memset(ram[page - frames], 0xdb, PAGE_SIZE);
    page->type = 0;
    fake_alloc_live--;
}

WEAK void page_free(struct page *page, unsigned order)
{
    if (page->refs != 1 || page->owner)
        abort();
    page->refs = 0;
    give_back(page);
}

WEAK void buddy_return(struct page *page)
{
    give_back(page);
}

WEAK void buddy_return_row(struct page *page, uint64_t n)
{
    while (n--)
        give_back(page++);
}

WEAK void *xpage_alloc(void)
{
    struct page *page = page_alloc(0, ALLOC_ZERO);
    return page ? page_to_virt(page) : NULL;
}

WEAK void xpage_free(void *va)
{
    page_free(virt_to_page(va), 0);
}
