/* Searching and counting in bitmaps (lib/bitmap.h): word by word, no locks. */
#include "lib/bitmap.h"

/* @flip is all ones to look for clear bits. */
static unsigned next(const uint64_t *map, unsigned bits, unsigned from, uint64_t flip)
{
    if (from >= bits)
        return bits;
    unsigned i = from / BITS_PER_WORD;
    uint64_t word = (READ_ONCE(map[i]) ^ flip) & (~0UL << (from % BITS_PER_WORD));
    while (!word) {
        if (++i >= BITMAP_WORDS(bits))
            return bits;
        word = READ_ONCE(map[i]) ^ flip;
    }
    unsigned bit = i * BITS_PER_WORD + (unsigned)__builtin_ctzl(word);
    return min(bit, bits);
}

unsigned bitmap_next_set(const uint64_t *map, unsigned bits, unsigned from)
{
    return next(map, bits, from, 0);
}

unsigned bitmap_next_clear(const uint64_t *map, unsigned bits, unsigned from)
{
    return next(map, bits, from, ~0UL);
}

/* Without POPCNT, which not every x86-64 CPU has, and without libgcc's helper. */
static unsigned ones(uint64_t v)
{
    v -= v >> 1 & 0x5555555555555555UL;
    v = (v & 0x3333333333333333UL) + (v >> 2 & 0x3333333333333333UL);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fUL;
    return v * 0x0101010101010101UL >> 56;
}

unsigned bitmap_weight(const uint64_t *map, unsigned bits)
{
    unsigned total = 0;
    for (unsigned i = 0; i < bits / BITS_PER_WORD; i++)
        total += ones(READ_ONCE(map[i]));
    if (bits % BITS_PER_WORD)
        total += ones(READ_ONCE(map[bits / BITS_PER_WORD]) & ~(~0UL << (bits % BITS_PER_WORD)));
    return total;
}
