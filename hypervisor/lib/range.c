/*
 * Range sets (lib/range.h): an array sorted by first, in which no two ranges overlap or touch, so
 * that lookups are one binary search. Changes compute the new array's length first and grow before
 * they touch anything, so a failure leaves the set as it was.
 */
#include "lib/range.h"
#include "lib/string.h"
#include "mm/mm.h"

/* Index of the first range whose last is at or above @v; count when there is none. */
static unsigned first_ending_at(const struct range_set *s, uint64_t v)
{
    unsigned lo = 0, hi = s->count;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (s->r[mid].last < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int reserve(struct range_set *s, unsigned count)
{
    if (count <= s->capacity)
        return 0;
    unsigned capacity = max(count, s->capacity ? s->capacity * 2 : 8);
    struct range *r = zalloc_array(capacity, sizeof(*r));
    if (!r)
        return -XEN_ENOMEM;
    if (s->count)
        memcpy(r, s->r, s->count * sizeof(*r));
    zfree(s->r);
    s->r = r;
    s->capacity = capacity;
    return 0;
}

/* Replaces the ranges [from, to) by the @n of @with; there is room. */
static void splice(struct range_set *s, unsigned from, unsigned to, const struct range *with,
                   unsigned n)
{
    memmove(&s->r[from + n], &s->r[to], (s->count - to) * sizeof(*s->r));
    for (unsigned i = 0; i < n; i++)
        s->r[from + i] = with[i];
    s->count = s->count - (to - from) + n;
}

int range_add(struct range_set *s, uint64_t first, uint64_t last)
{
    if (first > last)
        return -XEN_EINVAL;

    /* Neighbours that touch melt into one; beware of 0 - 1 and ~0 + 1. */
    unsigned from = first_ending_at(s, first ? first - 1 : 0), to = from;
    struct range merged = {first, last};
    while (to < s->count && (last == ~0UL || s->r[to].first <= last + 1)) {
        merged.first = min(merged.first, s->r[to].first);
        merged.last = max(merged.last, s->r[to].last);
        to++;
    }

    int rc = reserve(s, s->count - (to - from) + 1);
    if (rc)
        return rc;
    splice(s, from, to, &merged, 1);
    return 0;
}

int range_remove(struct range_set *s, uint64_t first, uint64_t last)
{
    if (first > last)
        return -XEN_EINVAL;

    unsigned from = first_ending_at(s, first), to = from, n = 0;
    struct range left[2];
    while (to < s->count && s->r[to].first <= last) {
        if (s->r[to].first < first)
            left[n++] = (struct range){s->r[to].first, first - 1};
        if (s->r[to].last > last)
            left[n++] = (struct range){last + 1, s->r[to].last};
        to++;
    }
    if (from == to)
        return 0;

    int rc = reserve(s, s->count - (to - from) + n);
    if (rc)
        return rc;
    splice(s, from, to, left, n);
    return 0;
}

bool range_contains(const struct range_set *s, uint64_t first, uint64_t last)
{
    unsigned i = first_ending_at(s, first);
    return first <= last && i < s->count && s->r[i].first <= first && s->r[i].last >= last;
}

bool range_overlaps(const struct range_set *s, uint64_t first, uint64_t last)
{
    unsigned i = first_ending_at(s, first);
    return first <= last && i < s->count && s->r[i].first <= last;
}

void range_free(struct range_set *s)
{
    zfree(s->r);
    *s = (struct range_set){0};
}
