/*
 * The hypervisor's own part of every address space (mm/layout.h).
 *
 * mm_init() builds it once, from memory below 4 GiB that the boot page tables reach: direct map,
 * image, frame table, machine-to-physical table twice (readable by guests; writable by us). Each
 * shared top-level slot gets its level-3 table then, so that every guest's L4 refers to the same
 * tables for ever and nothing has to be kept in step afterwards.
 *
 * Nothing is writable and executable: text is read-only in the image and in the direct map, all
 * else is never executable. Frame table and M2P exist only where there is RAM.
 *
 * vmap: single mappings in the first GiB of its slot, found by a bitmap. Every block is followed by
 * one page that stays unmapped, which is also the next block's guard below.
 *
 * Lock: RANK_HOSTMAP for the bitmap and the vmap tables.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "cpu/cpu.h"
#include "lib/string.h"
#include "mm/internal.h"

/* Entries (AMD APM vol. 2 section 5.3). */
#define HPTE_P          (1UL << 0)
#define HPTE_RW         (1UL << 1)
#define HPTE_U          (1UL << 2)
#define HPTE_UC         (3UL << 3) /* PWT and PCD: the fourth entry of the PAT, uncached */
#define HPTE_A          (1UL << 5)
#define HPTE_D          (1UL << 6)
#define HPTE_PS         (1UL << 7)
#define HPTE_NX         (1UL << 63)
#define HPTE_ADDR       0x000ffffffffff000UL

#define RIGHTS_RX       (HPTE_P | HPTE_A)
#define RIGHTS_R        (HPTE_P | HPTE_A | nx)
#define RIGHTS_RW       (HPTE_P | HPTE_A | HPTE_D | HPTE_RW | nx)

#define FRAMES_BELOW_4G (1UL << (32 - PAGE_SHIFT))
#define SIZE_2M         (1UL << 21)
#define SIZE_1G         (1UL << 30)
#define ENTRIES         512

uint64_t *host_l4 __ro_after_init;
mfn_t host_l4_mfn __ro_after_init;
uint64_t *m2p_writable __ro_after_init;
static uint64_t nx __ro_after_init; /* HPTE_NX where the CPU has it */

extern char __text_start[], __text_end[], __init_start[], __init_text_end[], __init_end[],
    __rodata_start[], __rodata_end[], __ro_after_init_start[], __ro_after_init_end[],
    __data_start[], __image_end[];

static uint64_t image_to_maddr(const char *p)
{
    return (uint64_t)p - IMAGE_VIRT;
}

/* --- building --- */

static uint64_t *__init early_table(void)
{
    mfn_t frame = bootmem_alloc(1, 1, FRAMES_BELOW_4G);
    page_clear(mfn_to_virt(frame));
    return mfn_to_virt(frame);
}

static unsigned index_of(uint64_t va, unsigned level)
{
    return (va >> (PAGE_SHIFT + 9 * (level - 1))) % ENTRIES;
}

/* The table below @entry, made when there is none. */
static uint64_t *__init descend(uint64_t *entry, uint64_t user)
{
    if (!(*entry & HPTE_P))
        *entry = virt_to_maddr(early_table()).a | HPTE_P | HPTE_RW | HPTE_A | user;
    return maddr_to_virt(maddr(*entry & HPTE_ADDR));
}

/* Entry of @level for @va; NULL when a larger page is there already. */
static uint64_t *__init entry_for(uint64_t va, unsigned level, uint64_t user)
{
    uint64_t *table = host_l4;
    for (unsigned l = 4; l > level; l--) {
        uint64_t *entry = &table[index_of(va, l)];
        if (*entry & HPTE_PS)
            return NULL;
        table = descend(entry, user);
    }
    return &table[index_of(va, level)];
}

/*
 * [va, va + size) to @pa by the largest pages up to @largest bytes that alignment allows. What is
 * mapped already stays as it is.
 */
static void __init map_range(uint64_t va, uint64_t pa, uint64_t size, uint64_t rights,
                             uint64_t largest)
{
    for (uint64_t step; size; va += step, pa += step, size -= step) {
        unsigned level = 1;
        step = PAGE_SIZE;
        if (largest >= SIZE_2M && !((va | pa) % SIZE_2M) && size >= SIZE_2M) {
            level = 2;
            step = SIZE_2M;
        }
        if (largest >= SIZE_1G && !((va | pa) % SIZE_1G) && size >= SIZE_1G) {
            level = 3;
            step = SIZE_1G;
        }
        uint64_t *entry = entry_for(va, level, rights & HPTE_U);
        if (entry && !(*entry & HPTE_P))
            *entry = pa | rights | (level > 1 ? HPTE_PS : 0);
    }
}

static uint64_t *__init leaf_4k(uint64_t va)
{
    return entry_for(va, 1, 0);
}

/* Of pages that are mapped by 4 KiB entries. */
static void __init change_rights(uint64_t va, uint64_t size, uint64_t rights)
{
    for (uint64_t end = va + size; va < end; va += PAGE_SIZE) {
        uint64_t *entry = leaf_4k(va);
        *entry = (*entry & HPTE_ADDR) | rights;
    }
}

static void __init map_image_part(const char *start, const char *end, uint64_t rights)
{
    map_range((uint64_t)start, image_to_maddr(start), end - start, rights, PAGE_SIZE);
}

static void __init map_image(void)
{
    map_image_part(__text_start, __text_end, RIGHTS_RX);
    map_image_part(__init_start, __init_text_end, RIGHTS_RX);
    map_image_part(__init_text_end, __init_end, RIGHTS_RW);
    map_image_part(__rodata_start, __rodata_end, RIGHTS_R);
    map_image_part(__ro_after_init_start, __image_end, RIGHTS_RW);
}

static void __init map_direct(uint64_t start, uint64_t end, uint64_t largest, uint64_t rights)
{
    start = ROUND_DOWN(start, PAGE_SIZE);
    end = min(ROUND_UP(end, PAGE_SIZE), (uint64_t)DIRECT_SIZE);
    if (start < end)
        map_range(DIRECT_VIRT + start, start, end - start, rights, largest);
}

/* RAM and what firmware left in it; the image by small pages, its constant parts not writable. */
static void __init map_memory(void)
{
    map_direct(image_to_maddr(__text_start), image_to_maddr(__text_end), PAGE_SIZE, RIGHTS_R);
    map_direct(image_to_maddr(__rodata_start), image_to_maddr(__rodata_end), PAGE_SIZE, RIGHTS_R);
    map_direct(image_to_maddr(__text_start), image_to_maddr(__image_end), PAGE_SIZE, RIGHTS_RW);
    map_direct(0, LOW_FRAMES << PAGE_SHIFT, PAGE_SIZE, RIGHTS_RW);

    uint64_t largest = cpu_features.page1gb ? SIZE_1G : SIZE_2M;
    uint64_t image_start = image_to_maddr(__text_start);
    uint64_t image_end = image_to_maddr(__image_end);
    for (unsigned i = 0; i < bootinfo.ranges; i++) {
        const struct e820_range *r = &bootinfo.map[i];
        if (r->type != E820_RAM && r->type != E820_ACPI && r->type != E820_NVS)
            continue;
        /* In up to two pieces, so that no large page covers the image. */
        map_direct(r->base, min(r->base + r->size, image_start), largest, RIGHTS_RW);
        map_direct(max(r->base, image_end), r->base + r->size, largest, RIGHTS_RW);
    }
    /* Modules may lie in RAM that mem= took away. */
    maddr_t start;
    uint64_t size;
    for (unsigned i = 0; bootinfo_next_reserved(&i, &start, &size);)
        map_direct(start.a, start.a + size, SIZE_2M, RIGHTS_RW);
}

/*
 * Backs the array at @va, of which 2 MiB serve @per_chunk frames, where there is RAM; again at
 * @alias when that is not 0.
 */
static void __init map_array(uint64_t va, uint64_t per_chunk, uint64_t rights, uint64_t alias)
{
    for (unsigned i = 0; i < ram_ranges; i++) {
        uint64_t end = ram_range[i].first + ram_range[i].frames;
        for (uint64_t c = ram_range[i].first / per_chunk; c <= (end - 1) / per_chunk; c++) {
            uint64_t *entry = entry_for(va + c * SIZE_2M, 2, rights & HPTE_U);
            if (*entry & HPTE_P)
                continue; /* two ranges in one chunk */
            uint64_t pa = mfn_to_maddr(bootmem_alloc(ENTRIES, ENTRIES, ~0UL)).a;
            *entry = pa | rights | HPTE_PS;
            if (alias)
                map_range(alias + c * SIZE_2M, pa, SIZE_2M, RIGHTS_RW, SIZE_2M);
        }
    }
}

/* Once the new tables are loaded: what map_array() backed gets its first contents. */
static void __init fill_array(uint64_t va, uint64_t per_chunk, int value)
{
    uint64_t done = 0; /* chunks below this are filled */
    for (unsigned i = 0; i < ram_ranges; i++) {
        uint64_t end = ram_range[i].first + ram_range[i].frames;
        uint64_t c = max(ram_range[i].first / per_chunk, done);
        for (; c <= (end - 1) / per_chunk; c++)
            memset((void *)(va + c * SIZE_2M), value, SIZE_2M);
        done = c;
    }
}

static void load_host_l4(void)
{
    write_cr3(mfn_to_maddr(host_l4_mfn).a);
    this_cpu()->loaded_cr3 = host_l4_mfn;
}

static uint64_t *vmap_l2 __ro_after_init;

void __init mm_init(void)
{
    bootmem_init();
    nx = cpu_features.nx ? HPTE_NX : 0;
    const uint64_t *boot_l4 = maddr_to_virt(maddr(read_cr3() & HPTE_ADDR));
    host_l4 = early_table();
    host_l4_mfn = virt_to_mfn(host_l4);
    m2p_writable = (uint64_t *)M2P_RW_VIRT;

    map_image();
    map_memory();
    map_array(FRAMES_VIRT, FRAMES_PER_CHUNK, RIGHTS_RW, 0);
    map_array(M2P_VIRT, M2P_PER_CHUNK, RIGHTS_R | HPTE_U, M2P_RW_VIRT);
    vmap_l2 = descend(entry_for(VMAP_VIRT, 3, 0), 0);
    host_l4[0] = boot_l4[0]; /* other CPUs begin in low memory; mm_init_late() ends this */
    load_host_l4();

    fill_array(FRAMES_VIRT, FRAMES_PER_CHUNK, 0);
    fill_array(M2P_RW_VIRT, M2P_PER_CHUNK, 0xff);
    bootmem_hand_over();
    log_info("memory: %lu MiB of RAM below 0x%lx, %lu MiB free", ram_total >> 8,
             max_mfn << PAGE_SHIFT, buddy_free_pages() >> 8);
}

void __init mm_init_late(void)
{
    uint64_t size = __ro_after_init_end - __ro_after_init_start;
    alloc_inject_init();
    uint64_t *l4 = host_l4;
    l4[0] = 0;
    change_rights(DIRECT_VIRT + image_to_maddr(__ro_after_init_start), size, RIGHTS_R);
    change_rights((uint64_t)__ro_after_init_start, size, RIGHTS_R);
    tlb_flush_mask(&cpus_online);
}

void mm_drop_init(void)
{
    for (char *p = __init_start; p < __init_end; p += PAGE_SIZE) {
        uint64_t va = (uint64_t)p, *table = host_l4;
        for (unsigned level = 4; level > 1; level--)
            table = maddr_to_virt(maddr(table[index_of(va, level)] & HPTE_ADDR));
        WRITE_ONCE(table[index_of(va, 1)], 0);
    }
    tlb_flush_mask(&cpus_online);
}

void hostmap_fill_l4(uint64_t *l4, mfn_t perdomain_l3)
{
    memcpy(&l4[HV_SLOT_FIRST], &host_l4[HV_SLOT_FIRST],
           (HV_SLOT_LAST - HV_SLOT_FIRST + 1) * sizeof(*l4));
    l4[PERDOMAIN_SLOT] = 0;
    if (!mfn_equal(perdomain_l3, MFN_NONE))
        l4[PERDOMAIN_SLOT] = mfn_to_maddr(perdomain_l3).a | HPTE_P | HPTE_RW | HPTE_A;
}

/* --- vmap --- */

#define VMAP_PAGES     ((unsigned)(SIZE_1G >> PAGE_SHIFT))
#define VMAP_ORDER_MAX 4

/*
 * A block is a power of two of pages, at a multiple of that, its last page a guard at least; what
 * is larger than the largest is several of those. So what is free for one order is found from where
 * it was looked for last, however many there are.
 */
static struct spinlock vmap_lock = SPINLOCK_INIT(RANK_HOSTMAP);
static uint64_t vmap_used[BITMAP_WORDS(SIZE_1G >> PAGE_SHIFT)];
static unsigned vmap_from[VMAP_ORDER_MAX + 1]; /* by order, from 1: no block of it is free below */

static unsigned vmap_order(unsigned n)
{
    unsigned order = 1;
    while (order < VMAP_ORDER_MAX && 1u << order < n + 1)
        order++;
    return order;
}

static unsigned vmap_span(unsigned n)
{
    return ROUND_UP(n + 1, 1u << vmap_order(n));
}

/* First of @span free pages, low ones first: few tables are needed; VMAP_PAGES: none. */
static unsigned vmap_find(unsigned order, unsigned span)
{
    unsigned p = max(vmap_from[order], 1u << order); /* page 0 guards the first */
    while (p + span <= VMAP_PAGES) {
        unsigned used = bitmap_next_set(vmap_used, p + span, p);
        if (used >= p + span)
            return p;
        p = ROUND_UP(bitmap_next_clear(vmap_used, VMAP_PAGES, used), 1u << order);
    }
    return VMAP_PAGES;
}

static uint64_t *vmap_entry(unsigned page)
{
    uint64_t l2e = vmap_l2[page / ENTRIES];
    return (uint64_t *)maddr_to_virt(maddr(l2e & HPTE_ADDR)) + page % ENTRIES;
}

/* The level-1 tables for the pages exist; they are never freed. Lock held. */
static bool vmap_tables(unsigned page, unsigned n)
{
    for (unsigned i = page / ENTRIES; i <= (page + n - 1) / ENTRIES; i++) {
        if (vmap_l2[i] & HPTE_P)
            continue;
        void *table = xpage_alloc();
        if (!table)
            return false;
        vmap_l2[i] = virt_to_maddr(table).a | HPTE_P | HPTE_RW | HPTE_A;
    }
    return true;
}

/* Virtual page number of a range with tables and guards; VMAP_PAGES: no room or memory. */
static unsigned vmap_reserve(unsigned n)
{
    unsigned order = vmap_order(n), span = vmap_span(n);
    spin_lock(&vmap_lock);
    unsigned page = vmap_find(order, span);
    if (page != VMAP_PAGES && !vmap_tables(page, n))
        page = VMAP_PAGES;
    if (page != VMAP_PAGES) {
        for (unsigned i = 0; i < span; i++)
            bit_set(vmap_used, page + i);
        if (span == 1u << order)
            vmap_from[order] = page + span;
    }
    spin_unlock(&vmap_lock);
    return page;
}

static void *vmap_any(const mfn_t *frames, mfn_t first, unsigned n, unsigned flags)
{
    uint64_t rights = flags & MAP_RX ? RIGHTS_RX : flags & MAP_RO ? RIGHTS_R : RIGHTS_RW;
    if (flags & MAP_UC)
        rights |= HPTE_UC;
    if (!n || n >= VMAP_PAGES)
        return NULL;
    unsigned page = vmap_reserve(n);
    if (page == VMAP_PAGES)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        mfn_t m = frames ? frames[i] : mfn(first.n + i);
        WRITE_ONCE(*vmap_entry(page + i), mfn_to_maddr(m).a | rights);
    }
    return (void *)(VMAP_VIRT + ((uint64_t)page << PAGE_SHIFT));
}

void *vmap_frames(const mfn_t *frames, unsigned n, unsigned flags)
{
    return vmap_any(frames, MFN_NONE, n, flags);
}

void *vmap_contiguous(mfn_t first, unsigned n, unsigned flags)
{
    return vmap_any(NULL, first, n, flags);
}

void vunmap(void *va, unsigned n)
{
    unsigned page = ((uint64_t)va - VMAP_VIRT) >> PAGE_SHIFT;
    if (!va)
        return;
    for (unsigned i = 0; i < n; i++)
        WRITE_ONCE(*vmap_entry(page + i), 0);
    tlb_flush_mask(&cpus_online);
    tlb_flush_local(); /* early in the boot we may not be in that mask */
    spin_lock(&vmap_lock);
    for (unsigned i = 0, span = vmap_span(n); i < span; i++)
        bit_clear(vmap_used, page + i);
    for (unsigned order = 1; order <= VMAP_ORDER_MAX; order++)
        vmap_from[order] = min(vmap_from[order], ROUND_DOWN(page, 1u << order));
    spin_unlock(&vmap_lock);
}
