/* Grants of domain 0 to itself: maps and unmaps in batches, copies. */
#include "ops.h"
#include <xen/grant_table.h>

#define GRANTS 256
#define FIRST  8 /* those below are the toolstack's (xen/grant_table.h) */

static uint8_t pages[GRANTS][PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t targets[GRANTS][PAGE_SIZE] __attribute__((aligned(4096)));

static void grant_setup(void)
{
    static xen_pfn_t frame;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};
    s.frame_list.p = &frame;
    MUST(HC(grant_table_op, GNTTABOP_setup_table, &s, 1));
    MUST(s.status);
    struct grant_entry_v1 *table = window_map(frame, PTE_KERN);
    for (unsigned i = 0; i < GRANTS; i++) {
        table[FIRST + i].frame = (uint32_t)mfn_of(pages[i]);
        table[FIRST + i].flags = GTF_permit_access;
    }
}

static void map_unmap(unsigned n, unsigned size)
{
    static struct gnttab_map_grant_ref map[GRANTS];
    static struct gnttab_unmap_grant_ref unmap[GRANTS];
    while (n--) {
        for (unsigned i = 0; i < size; i++)
            map[i] = (struct gnttab_map_grant_ref){
                .host_addr = (uint64_t)targets[i], .flags = GNTMAP_host_map, .ref = FIRST + i};
        MUST(HC(grant_table_op, GNTTABOP_map_grant_ref, map, size));
        for (unsigned i = 0; i < size; i++) {
            MUST(map[i].status);
            unmap[i] = (struct gnttab_unmap_grant_ref){.host_addr = (uint64_t)targets[i],
                                                       .handle = map[i].handle};
        }
        MUST(HC(grant_table_op, GNTTABOP_unmap_grant_ref, unmap, size));
        for (unsigned i = 0; i < size; i++)
            MUST(unmap[i].status);
    }
}

static void map_1(unsigned n)
{
    map_unmap(n, 1);
}

static void map_32(unsigned n)
{
    map_unmap(n, 32);
}

static void map_256(unsigned n)
{
    map_unmap(n, 256);
}

static void copy(unsigned n, unsigned size, unsigned bytes)
{
    static struct gnttab_copy c[32];
    while (n--) {
        for (unsigned i = 0; i < size; i++) {
            c[i] = (struct gnttab_copy){.flags = GNTCOPY_source_gref, .len = (uint16_t)bytes};
            c[i].source.u.ref = FIRST + i;
            c[i].dest.domid = DOMID_SELF;
            c[i].dest.u.gmfn = mfn_of(pages[GRANTS - 1 - i]);
        }
        MUST(HC(grant_table_op, GNTTABOP_copy, c, size));
        for (unsigned i = 0; i < size; i++)
            MUST(c[i].status);
    }
}

static void copy_64(unsigned n)
{
    copy(n, 32, 64);
}

static void copy_4096(unsigned n)
{
    copy(n, 32, 4096);
}

const struct op grant_ops[] = {
    {"grant_map_unmap_1", grant_setup, map_1, 2000, 1},
    {"grant_map_unmap_32", NULL, map_32, 100, 32},
    {"grant_map_unmap_256", NULL, map_256, 20, 256},
    {"grant_copy_64", NULL, copy_64, 100, 32},
    {"grant_copy_4096", NULL, copy_4096, 100, 32},
    {0},
};
