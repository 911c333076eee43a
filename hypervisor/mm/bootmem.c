/*
 * Which frames are RAM, and memory before the buddy allocator exists.
 *
 * RAM is what the boot memory map calls so, without the first 1 MiB. What of it is free at the
 * start is RAM less what bootinfo reserves; mm/hostmap.c takes page tables and the frame table from
 * the top of it, and hands the rest to the buddy allocator. One CPU runs; no lock.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "mm/internal.h"

#define FREE_RANGES_MAX (BOOT_MAX_RANGES * 2)

unsigned ram_ranges;
struct ram_range ram_range[BOOT_MAX_RANGES], ram_largest;
uint64_t ram_total;
uint64_t max_mfn;

static __initdata struct ram_range free_range[FREE_RANGES_MAX];
static __initdata unsigned free_ranges;

bool mfn_is_ram_elsewhere(mfn_t m)
{
    for (unsigned i = 0; i < ram_ranges; i++)
        if (m.n - ram_range[i].first < ram_range[i].frames)
            return true;
    return false;
}

static void __init add_ram(uint64_t first, uint64_t end)
{
    first = max(first, (uint64_t)LOW_FRAMES);
    end = min(end, (uint64_t)DIRECT_SIZE >> PAGE_SHIFT);
    if (first >= end)
        return;
    if (ram_ranges && ram_range[ram_ranges - 1].first + ram_range[ram_ranges - 1].frames == first)
        ram_range[ram_ranges - 1].frames += end - first;
    else
        ram_range[ram_ranges++] = (struct ram_range){first, end - first};
    if (ram_range[ram_ranges - 1].frames > ram_largest.frames)
        ram_largest = ram_range[ram_ranges - 1];
    ram_total += end - first;
    max_mfn = end;
}

static void __init add_free(uint64_t first, uint64_t end)
{
    if (first >= end)
        return;
    if (free_ranges == FREE_RANGES_MAX) {
        log_warn("memory map: 0x%lx-0x%lx is not used, too many ranges", first << PAGE_SHIFT,
                 (end << PAGE_SHIFT) - 1);
        return;
    }
    free_range[free_ranges++] = (struct ram_range){first, end - first};
}

/* One range of RAM less the reserved ones, which are sorted. */
static void __init add_unreserved(uint64_t first, uint64_t end)
{
    unsigned i = 0;
    maddr_t start;
    uint64_t size;
    while (first < end && bootinfo_next_reserved(&i, &start, &size)) {
        uint64_t from = start.a >> PAGE_SHIFT;
        uint64_t to = (start.a + size + PAGE_SIZE - 1) >> PAGE_SHIFT;
        if (to <= first)
            continue;
        if (from >= end)
            break;
        add_free(first, from);
        first = to;
    }
    add_free(first, end);
}

void __init bootmem_init(void)
{
    for (unsigned i = 0; i < bootinfo.ranges; i++) {
        const struct e820_range *r = &bootinfo.map[i];
        if (r->type == E820_RAM)
            add_ram((r->base + PAGE_SIZE - 1) >> PAGE_SHIFT, (r->base + r->size) >> PAGE_SHIFT);
    }
    if (!ram_ranges)
        panic("the memory map has no RAM above 1 MiB");
    for (unsigned i = 0; i < ram_ranges; i++)
        add_unreserved(ram_range[i].first, ram_range[i].first + ram_range[i].frames);
}

mfn_t __init bootmem_alloc(uint64_t frames, uint64_t align, uint64_t limit)
{
    for (unsigned i = free_ranges; i-- > 0;) {
        struct ram_range *r = &free_range[i];
        uint64_t end = min(r->first + r->frames, limit);
        if (end < frames)
            continue;
        uint64_t first = ROUND_DOWN(end - frames, align);
        if (first < r->first || end <= r->first)
            continue;
        uint64_t old_end = r->first + r->frames;
        r->frames = first - r->first;
        /* What lies behind (alignment, limit) stays free; the list need not be sorted for that. */
        add_free(first + frames, old_end);
        return mfn(first);
    }
    panic("not enough memory to start: %lu KiB more are needed", frames << 2);
}

void __init bootmem_hand_over(void)
{
    for (unsigned i = 0; i < free_ranges; i++)
        if (free_range[i].frames)
            buddy_add_range(mfn(free_range[i].first), free_range[i].frames);
    free_ranges = 0;
}
