/*
 * The memory map, made safe to use (ACPI 6.5 section 15: firmware's entries may come in any order,
 * overlap, be empty). Pure; runs once, so it is simple rather than quick: every place where an
 * entry begins or ends cuts the line, and each piece gets the type that is least usable among the
 * entries that cover it.
 */
#include "boot/internal.h"
#include "console/console.h"

/* No x86 CPU has more physical address bits (APM vol. 2 section 5.1). */
#define ADDRESS_LIMIT (1UL << 52)

void raw_map_add(struct raw_map *raw, uint64_t base, uint64_t size, uint32_t type)
{
    if (raw->count < BOOT_MAX_RANGES)
        raw->range[raw->count++] = (struct e820_range){base, size, type};
    else
        log_warn("memory map: more than %u entries, 0x%lx+0x%lx is ignored", BOOT_MAX_RANGES, base,
                 size);
}

/* What overlaps becomes: NVS and unusable memory must stay so, tables are better than nothing. */
static unsigned strength(uint32_t type)
{
    switch (type) {
    case 0:
        return 0;
    case E820_RAM:
        return 1;
    case E820_ACPI:
        return 2;
    case E820_RESERVED:
        return 3;
    case E820_NVS:
        return 4;
    default:
        return 5;
    }
}

/* Clips one entry to what is believed of it; size 0 when nothing is. */
static void normalise(struct e820_range *r)
{
    if (r->type < E820_RAM || r->type > E820_UNUSABLE)
        r->type = E820_RESERVED; /* ours to leave alone, whatever it is */
    if (r->base >= ADDRESS_LIMIT) {
        r->size = 0;
    } else if (r->size > ADDRESS_LIMIT - r->base) {
        /* Memory that wraps is not believed; what is forbidden is forbidden to the end. */
        if (r->type == E820_RAM)
            log_warn("memory map: 0x%lx+0x%lx wraps, ignored", r->base, r->size);
        r->size = r->type == E820_RAM ? 0 : ADDRESS_LIMIT - r->base;
    }
}

/* The lowest cut above @from; ADDRESS_LIMIT when there is none. */
static uint64_t next_cut(const struct raw_map *raw, uint64_t from)
{
    uint64_t next = ADDRESS_LIMIT;
    for (unsigned i = 0; i < raw->count; i++) {
        const struct e820_range *r = &raw->range[i];
        if (r->size && r->base > from)
            next = min(next, r->base);
        if (r->size && r->base + r->size > from)
            next = min(next, r->base + r->size);
    }
    return next;
}

/* 0 when nobody covers it. */
static uint32_t type_at(const struct raw_map *raw, uint64_t at)
{
    uint32_t type = 0;
    for (unsigned i = 0; i < raw->count; i++) {
        const struct e820_range *r = &raw->range[i];
        if (r->base <= at && at - r->base < r->size && strength(r->type) > strength(type))
            type = r->type;
    }
    return type;
}

static bool append(struct bootinfo *b, uint64_t base, uint64_t size, uint32_t type)
{
    struct e820_range *last = b->ranges ? &b->map[b->ranges - 1] : NULL;
    if (last && last->type == type && last->base + last->size == base) {
        last->size += size;
        return true;
    }
    if (b->ranges == BOOT_MAX_RANGES)
        return false;
    b->map[b->ranges++] = (struct e820_range){base, size, type};
    return true;
}

/* RAM in whole pages; the parts of pages at either end belong to nobody. */
static void trim_ram(struct bootinfo *b)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < b->ranges; i++) {
        struct e820_range r = b->map[i];
        if (r.type == E820_RAM) {
            uint64_t end = ROUND_DOWN(r.base + r.size, PAGE_SIZE);
            r.base = ROUND_UP(r.base, PAGE_SIZE);
            r.size = end > r.base ? end - r.base : 0;
        }
        if (r.size)
            b->map[kept++] = r;
    }
    b->ranges = kept;
}

void e820_sanitise(struct bootinfo *b, struct raw_map *raw)
{
    for (unsigned i = 0; i < raw->count; i++)
        normalise(&raw->range[i]);
    b->ranges = 0;
    uint64_t at = 0;
    while (at < ADDRESS_LIMIT) {
        uint64_t next = next_cut(raw, at);
        uint32_t type = type_at(raw, at);
        if (type && !append(b, at, next - at, type)) {
            log_warn("memory map: too many pieces, nothing above 0x%lx is used", at);
            break;
        }
        at = next;
    }
    trim_ram(b);
}

void e820_limit(struct bootinfo *b, uint64_t limit)
{
    limit = ROUND_DOWN(limit, PAGE_SIZE);
    for (unsigned i = 0; i < b->ranges; i++) {
        struct e820_range *r = &b->map[i];
        if (r->type != E820_RAM || r->base + r->size <= limit)
            continue;
        if (r->base >= limit) {
            r->type = E820_RESERVED;
            continue;
        }
        /* Cut in two; without room for the second the rest is simply not mentioned. */
        uint64_t end = r->base + r->size;
        r->size = limit - r->base;
        if (b->ranges < BOOT_MAX_RANGES) {
            for (unsigned j = b->ranges++; j > i + 1; j--)
                b->map[j] = b->map[j - 1];
            b->map[i + 1] = (struct e820_range){limit, end - limit, E820_RESERVED};
        }
    }
}
