/*
 * Bits in arrays of 64-bit words. The plain names are not atomic; atomic_* are, and order memory
 * fully (LOCK prefix, AMD APM vol. 2 section 7.3).
 */
#ifndef LIB_BITMAP_H
#define LIB_BITMAP_H

#include "lib/compiler.h"
#include "lib/types.h"

#define BITS_PER_WORD      64
#define BITMAP_WORDS(bits) (((bits) + BITS_PER_WORD - 1) / BITS_PER_WORD)

static inline bool bit_test(const uint64_t *map, unsigned bit)
{
    return (READ_ONCE(map[bit / BITS_PER_WORD]) >> (bit % BITS_PER_WORD)) & 1;
}

static inline void bit_set(uint64_t *map, unsigned bit)
{
    map[bit / BITS_PER_WORD] |= 1UL << (bit % BITS_PER_WORD);
}

static inline void bit_clear(uint64_t *map, unsigned bit)
{
    map[bit / BITS_PER_WORD] &= ~(1UL << (bit % BITS_PER_WORD));
}

/* Each returns the bit's previous value. */
static inline bool atomic_bit_set(uint64_t *map, unsigned bit)
{
    uint64_t mask = 1UL << (bit % BITS_PER_WORD);
    return __atomic_fetch_or(&map[bit / BITS_PER_WORD], mask, __ATOMIC_SEQ_CST) & mask;
}

static inline bool atomic_bit_clear(uint64_t *map, unsigned bit)
{
    uint64_t mask = 1UL << (bit % BITS_PER_WORD);
    return __atomic_fetch_and(&map[bit / BITS_PER_WORD], ~mask, __ATOMIC_SEQ_CST) & mask;
}

/* First set (clear) bit at or above @from; @bits when there is none. */
unsigned bitmap_next_set(const uint64_t *map, unsigned bits, unsigned from);
unsigned bitmap_next_clear(const uint64_t *map, unsigned bits, unsigned from);
unsigned bitmap_weight(const uint64_t *map, unsigned bits);

#endif
