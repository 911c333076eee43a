/*
 * Which function an address lies in. The table is made from the first link of the image
 * (symbols.sh) and stands behind all code, so that adding it moves nothing it describes.
 */
#include "cpu/cpu.h"

/* Sorted by offset from the image's start; names are offsets into symbol_names. */
struct symbol {
    uint32_t offset, name;
};

extern const uint32_t symbol_count;
extern const struct symbol symbol_table[];
extern const char symbol_names[];
extern const char __image_start[], __init_text_end[];

const char *symbol_find(uint64_t addr, uint64_t *offset)
{
    uint64_t start = (uint64_t)__image_start;
    *offset = 0;
    if (addr < start || addr >= (uint64_t)__init_text_end)
        return "?";

    unsigned lo = 0, hi = symbol_count; /* the last one at or below addr is in [lo - 1, hi) */
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (symbol_table[mid].offset <= addr - start)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo)
        return "?";
    *offset = addr - start - symbol_table[lo - 1].offset;
    return symbol_names + symbol_table[lo - 1].name;
}

const char *symbol_by_number(uint32_t number, uint64_t *addr)
{
    if (number >= symbol_count)
        return NULL;
    *addr = (uint64_t)__image_start + symbol_table[number].offset;
    return symbol_names + symbol_table[number].name;
}
