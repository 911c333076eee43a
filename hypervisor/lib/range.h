/*
 * Sets of uint64 ranges, both ends included: I/O ports, I/O memory and interrupts that a domain
 * may use. Sorted array, merged on insert. The caller serialises.
 */
#ifndef LIB_RANGE_H
#define LIB_RANGE_H

#include "lib/compiler.h"
#include "lib/types.h"

struct range {
    uint64_t first, last;
};

struct range_set {
    struct range *r;
    unsigned count, capacity;
};

/* -XEN_ENOMEM when it cannot grow, -XEN_EINVAL when first > last; the set is then unchanged. */
int __must_check range_add(struct range_set *s, uint64_t first, uint64_t last);
int __must_check range_remove(struct range_set *s, uint64_t first, uint64_t last);
bool range_contains(const struct range_set *s, uint64_t first, uint64_t last);
bool range_overlaps(const struct range_set *s, uint64_t first, uint64_t last);
void range_free(struct range_set *s);

#endif
