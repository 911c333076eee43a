/*
 * Small zeroed objects, from caches of a few sizes; large ones straight from the buddy allocator.
 *
 * A slab is one page: a header with a bitmap of the objects in use, then the objects. Slabs with
 * room are on their cache's list; full ones on none; empty ones go back. The struct page of each
 * page we hold says what it is, so zfree() needs only the address. Freeing what is not allocated
 * panics. Debug builds keep a word behind each object and check it when it is freed.
 *
 * Lock: one per cache, RANK_SLAB.
 */
#include "console/console.h"
#include "lib/bitmap.h"
#include "lib/list.h"
#include "lib/string.h"
#include "mm/internal.h"

#define SLAB_MAX_OBJECTS 256

struct slab {
    struct list link;
    uint16_t cache;
    uint16_t used;
    uint64_t map[SLAB_MAX_OBJECTS / 64];
};

#define SLAB_HEADER 64
_Static_assert(sizeof(struct slab) <= SLAB_HEADER, "the first object follows the header");
#define SLAB_ROOM (PAGE_SIZE - SLAB_HEADER)

#ifdef DEBUG
#define RED_ZONE  8
#define RED_VALUE 0x5afe5afe0ddba115UL
#else
#define RED_ZONE 0
#endif

/* The larger ones divide a page's room by 7, 5, 4, 3 and 2. */
static const uint16_t sizes[] = {16,  32,  48,  64,  96,   128,  192, 256,
                                 320, 448, 576, 800, 1008, 1344, 2016};
#define CACHES ARRAY_SIZE(sizes)

struct cache {
    struct spinlock lock;
    struct list partial;
};

#define CACHE(i)                                                                                   \
    {                                                                                              \
        SPINLOCK_INIT(RANK_SLAB), LIST_INIT(caches[i].partial)                                     \
    }
static struct cache caches[CACHES] = {
    CACHE(0), CACHE(1), CACHE(2),  CACHE(3),  CACHE(4),  CACHE(5),  CACHE(6),  CACHE(7),
    CACHE(8), CACHE(9), CACHE(10), CACHE(11), CACHE(12), CACHE(13), CACHE(14),
};

static unsigned objects_of(unsigned cache)
{
    return SLAB_ROOM / sizes[cache];
}

static uint8_t *object(struct slab *s, unsigned i)
{
    return (uint8_t *)s + SLAB_HEADER + i * sizes[s->cache];
}

static void *large_alloc(size_t size)
{
    unsigned order = page_order(size);
    struct page *page = page_alloc(order, ALLOC_ZERO);
    if (!page)
        return NULL;
    page->type = SLAB_LARGE | order;
    return page_to_virt(page);
}

static struct slab *slab_new(unsigned cache)
{
    struct page *page = page_alloc(0, 0);
    if (!page)
        return NULL;
    page->type = SLAB_PAGE;
    struct slab *s = page_to_virt(page);
    memset(s, 0, sizeof(*s));
    s->cache = cache;
    return s;
}

/* An object of a slab that has one; cache lock held. */
static void *slab_take(struct slab *s)
{
    unsigned n = objects_of(s->cache);
    unsigned i = bitmap_next_clear(s->map, n, 0);
    bit_set(s->map, i);
    if (++s->used == n)
        list_del(&s->link);
    return object(s, i);
}

static void *small_alloc(unsigned cache)
{
    struct cache *c = &caches[cache];
    spin_lock(&c->lock);
    if (list_empty(&c->partial)) {
        struct slab *s = slab_new(cache);
        if (!s) {
            spin_unlock(&c->lock);
            return NULL;
        }
        list_add(&c->partial, &s->link);
    }
    uint8_t *p = slab_take(container_of(c->partial.next, struct slab, link));
    spin_unlock(&c->lock);
    memset(p, 0, sizes[cache]);
#ifdef DEBUG
    *(uint64_t *)(p + sizes[cache] - RED_ZONE) = RED_VALUE;
#endif
    return p;
}

void *zalloc(size_t size)
{
    if (size > (1UL << 20) || alloc_must_fail())
        return NULL;
    for (unsigned i = 0; i < CACHES; i++)
        if (size + RED_ZONE <= sizes[i])
            return small_alloc(i);
    return large_alloc(size);
}

void *zalloc_array(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return zalloc(bytes);
}

/* What forbids freeing object @i; NULL: nothing. Cache lock held. */
static const char *object_wrong(struct slab *s, unsigned i)
{
    if (!bit_test(s->map, i))
        return "is free already";
#ifdef DEBUG
    if (*(uint64_t *)(object(s, i) + sizes[s->cache] - RED_ZONE) != RED_VALUE)
        return "was written beyond its end";
#endif
    return NULL;
}

static void small_free(void *p)
{
    struct slab *s = (struct slab *)((uint64_t)p & PAGE_MASK), *empty = NULL;
    unsigned size = sizes[s->cache], n = objects_of(s->cache);
    unsigned offset = (uint8_t *)p - object(s, 0), i = offset / size;
    if (offset % size || i >= n)
        panic("zfree: %p is not the start of an object", p);
    struct cache *c = &caches[s->cache];
    spin_lock(&c->lock);
    const char *wrong = object_wrong(s, i);
    if (wrong) {
        spin_unlock(&c->lock);
        panic("zfree: %p %s", p, wrong);
    }
#ifdef DEBUG
    memset(p, 0xdb, size);
#endif
    bit_clear(s->map, i);
    if (s->used-- == n)
        list_add(&c->partial, &s->link);
    if (s->used == 0) {
        list_del(&s->link);
        empty = s;
    }
    spin_unlock(&c->lock);
    if (empty) {
        virt_to_page(empty)->type = 0;
        page_free(virt_to_page(empty), 0);
    }
}

void zfree(void *p)
{
    if (!p)
        return;
    struct page *page = virt_to_page(p);
    if (page->type & SLAB_PAGE) {
        small_free(p);
    } else if (page->type & SLAB_LARGE) {
        unsigned order = page->type & FREE_ORDER_MASK;
        page->type = 0;
        page_free(page, order);
    } else {
        panic("zfree: %p was not allocated by zalloc", p);
    }
}
