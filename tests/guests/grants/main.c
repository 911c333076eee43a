/*
 * Grant tables version 1, with domain 0 as both lender and borrower: setting up, mapping by address
 * and by page-table entry, read-only kept, counts in the entry's flags, batches, revoking while
 * mapped, and what is refused. copy.c copies.
 */
#include "grants.h"

const char test_name[] = "grants";

volatile struct grant_entry_v1 *table;
static uint8_t *target[32]; /* addresses to map at */

static long op(unsigned cmd, void *arg, unsigned count)
{
    return HC(grant_table_op, cmd, arg, count);
}

void grant(unsigned ref, uint16_t domid, uint64_t mfn, uint16_t flags)
{
    table[ref].frame = (uint32_t)mfn;
    table[ref].domid = domid;
    __atomic_store_n(&table[ref].flags, GTF_permit_access | flags, __ATOMIC_SEQ_CST);
}

void revoke(unsigned ref)
{
    __atomic_store_n(&table[ref].flags, 0, __ATOMIC_SEQ_CST);
}

static struct gnttab_map_grant_ref map_one(uint64_t addr, unsigned ref, uint32_t flags)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = addr, .flags = flags, .ref = ref, .dom = 0, .status = 99};

    if (op(GNTTABOP_map_grant_ref, &m, 1))
        m.status = 98;
    return m;
}

static int unmap_one(uint64_t addr, grant_handle_t handle)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = addr, .handle = handle, .status = 99};

    return op(GNTTABOP_unmap_grant_ref, &u, 1) ? 98 : u.status;
}

static void setup(void)
{
    static xen_pfn_t frames[64];
    struct gnttab_query_size q = {.dom = DOMID_SELF, .status = 99};
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 2, .status = 99};
    struct gnttab_get_version gv = {.dom = DOMID_SELF};
    struct gnttab_set_version sv = {.version = 1};
    struct gnttab_get_status_frames sf = {.dom = DOMID_SELF, .nr_frames = 1, .status = 99};

    section("setting up");
    CHECK_EQ(op(GNTTABOP_set_version, &sv, 1), 0);
    CHECK_EQ(op(GNTTABOP_query_size, &q, 1), 0);
    CHECK_EQ(q.status, GNTST_okay);
    print("  %u frames of at most %u\n", q.nr_frames, q.max_nr_frames);
    CHECK(q.max_nr_frames >= 4);
    s.frame_list.p = frames;
    CHECK_EQ(op(GNTTABOP_setup_table, &s, 1), 0);
    CHECK_EQ(s.status, GNTST_okay);
    CHECK_EQ(op(GNTTABOP_query_size, &q, 1), 0);
    CHECK(q.nr_frames >= 2);
    /* Two windows in a row, by being the first two. */
    table = window_map(frames[0], PTE_KERN);
    CHECK_EQ(window_map(frames[1], PTE_KERN), (char *)table + PAGE_SIZE);
    for (unsigned i = 0; i < ENTRIES; i++)
        if (table[i].flags) {
            CHECK_EQ(table[i].flags, 0);
            break;
        }
    s.nr_frames = q.max_nr_frames + 1;
    CHECK_EQ(op(GNTTABOP_setup_table, &s, 1), 0);
    CHECK(s.status < 0);
    s.nr_frames = 1;
    s.dom = 1234;
    CHECK_EQ(op(GNTTABOP_setup_table, &s, 1), 0);
    CHECK_EQ(s.status, GNTST_bad_domain);
    s.dom = DOMID_SELF;
    s.frame_list.p = (void *)BAD_HYPERVISOR;
    CHECK(op(GNTTABOP_setup_table, &s, 1) < 0 || s.status < 0);
    q.dom = 1234;
    CHECK_EQ(op(GNTTABOP_query_size, &q, 1), 0);
    CHECK_EQ(q.status, GNTST_bad_domain);
    CHECK_EQ(op(GNTTABOP_get_version, &gv, 1), 0);
    CHECK_EQ(gv.version, 1);
    gv.dom = 1234;
    CHECK_REFUSED(op(GNTTABOP_get_version, &gv, 1));
    sv.version = 3;
    CHECK_EQ(op(GNTTABOP_set_version, &sv, 1), -XEN_EINVAL);
    sv.version = 0;
    CHECK_EQ(op(GNTTABOP_set_version, &sv, 1), -XEN_EINVAL);
    sf.frame_list.p = (uint64_t *)frames;
    CHECK(op(GNTTABOP_get_status_frames, &sf, 1) < 0 || sf.status < 0); /* version 2's only */
}

static void mappings(void)
{
    uint64_t *page = page_alloc(), *at = (uint64_t *)target[0], *ro = (uint64_t *)target[1], v;
    struct gnttab_map_grant_ref m, n;

    section("map and unmap");
    page[0] = 0x1234;
    grant(8, 0, mfn_of(page), 0);
    m = map_one((uint64_t)at, 8, GNTMAP_host_map);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(try_read(at, &v));
    CHECK_EQ(v, 0x1234);
    CHECK(try_write(at, 0x5678));
    CHECK_EQ(page[0], 0x5678);
    CHECK_EQ(table[8].flags, GTF_permit_access | GTF_reading | GTF_writing);
    /* A second mapping of the same grant, read-only. */
    n = map_one((uint64_t)ro, 8, GNTMAP_host_map | GNTMAP_readonly);
    CHECK_EQ(n.status, GNTST_okay);
    CHECK(n.handle != m.handle);
    CHECK(try_read(ro, &v));
    CHECK_EQ(v, 0x5678);
    CHECK(!try_write(ro, 0));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    /* While it is mapped writable it is no table. */
    CHECK_EQ(map_ro(page), 0);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page)));
    CHECK_EQ(unmap_one((uint64_t)at, m.handle), GNTST_okay);
    CHECK_EQ(table[8].flags, GTF_permit_access | GTF_reading);
    CHECK_EQ(pte_get(at), 0);
    CHECK(!try_read(at, &v));
    CHECK_EQ(unmap_one((uint64_t)at, m.handle), GNTST_bad_handle);
    CHECK_EQ(unmap_one((uint64_t)ro, n.handle), GNTST_okay);
    CHECK_EQ(table[8].flags, GTF_permit_access);
    CHECK(!try_read(ro, &v));
    CHECK_EQ(map_rw(page), 0);

    section("read-only grants");
    grant(9, 0, mfn_of(page), GTF_readonly);
    m = map_one((uint64_t)at, 9, GNTMAP_host_map);
    CHECK(m.status < 0);
    CHECK_EQ(table[9].flags, GTF_permit_access | GTF_readonly);
    m = map_one((uint64_t)at, 9, GNTMAP_host_map | GNTMAP_readonly);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(!try_write(at, 0));
    /* Not made writable by the page table's calls either. */
    v = pte_get(at);
    CHECK_EQ(table[9].flags, GTF_permit_access | GTF_readonly | GTF_reading);
    CHECK_EQ(unmap_one((uint64_t)at, m.handle), GNTST_okay);

    section("mapping by page-table entry");
    v = pt_entry_maddr(at, 1);
    m = map_one(v, 8, GNTMAP_host_map | GNTMAP_contains_pte | 5u << _GNTMAP_guest_avail0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(pte_get(at) >> 12 & 0xffffffffff, mfn_of(page));
    CHECK_EQ(pte_get(at) >> 9 & 7, 5); /* XENFEAT_gnttab_map_avail_bits */
    CHECK(try_write(at, 1));
    CHECK_EQ(page[0], 1);
    CHECK_EQ(unmap_one(v, m.handle), GNTST_okay);
    CHECK(!try_read(at, &v));

    section("device mappings");
    m = map_one((uint64_t)at, 8, GNTMAP_host_map | GNTMAP_device_map);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(m.dev_bus_addr, mfn_of(page) << PAGE_SHIFT);
    struct gnttab_unmap_grant_ref u = {
        .host_addr = (uint64_t)at, .dev_bus_addr = m.dev_bus_addr, .handle = m.handle};
    CHECK_EQ(op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK_EQ(u.status, GNTST_okay);
    CHECK_EQ(table[8].flags, GTF_permit_access);
    revoke(8);
    revoke(9);
    page_free(page);
}

static void batches(void)
{
    static struct gnttab_map_grant_ref m[32];
    static struct gnttab_unmap_grant_ref u[32];
    uint64_t *pages[32], v;
    unsigned good = 0;

    section("batches");
    for (unsigned i = 0; i < 32; i++) {
        pages[i] = page_alloc();
        pages[i][0] = i;
        grant(16 + i, 0, mfn_of(pages[i]), 0);
        m[i] = (struct gnttab_map_grant_ref){.host_addr = (uint64_t)target[i],
                                             .flags = GNTMAP_host_map,
                                             .ref = i == 7 ? 999 : 16 + i,
                                             .dom = 0,
                                             .status = 99};
    }
    CHECK_EQ(op(GNTTABOP_map_grant_ref, m, 32), 0);
    for (unsigned i = 0; i < 32; i++)
        good += m[i].status == GNTST_okay && *(uint64_t *)target[i] == i;
    CHECK_EQ(good, 31);
    CHECK_IN(m[7].status, GNTST_bad_gntref, GNTST_general_error); /* only that one */
    for (unsigned i = 0; i < 32; i++)
        u[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = m[i].host_addr, .handle = m[i].handle, .status = 99};
    u[7].handle = 0x7fffffff;
    CHECK_EQ(op(GNTTABOP_unmap_grant_ref, u, 32), 0);
    good = 0;
    for (unsigned i = 0; i < 32; i++) {
        good += u[i].status == GNTST_okay && !try_read(target[i], &v);
        revoke(16 + i);
        page_free(pages[i]);
    }
    CHECK_EQ(good, 31);
    CHECK_EQ(u[7].status, GNTST_bad_handle);
    CHECK_EQ(op(GNTTABOP_map_grant_ref, m, 0), 0);
}

static void hostile(void)
{
    uint64_t *page = page_alloc(), *at = (uint64_t *)target[0], v;
    struct gnttab_map_grant_ref m;

    section("revoked while mapped");
    grant(8, 0, mfn_of(page), 0);
    m = map_one((uint64_t)at, 8, GNTMAP_host_map);
    CHECK_EQ(m.status, GNTST_okay);
    table[8].flags = 0;
    table[8].frame = 0;
    CHECK(try_write(at, 3)); /* the mapping holds until it is given back */
    CHECK_EQ(page[0], 3);
    CHECK_EQ(unmap_one((uint64_t)at, m.handle), GNTST_okay);
    CHECK(!try_read(at, &v));
    CHECK_EQ(table[8].flags, 0);

    section("entry removed by other means");
    grant(8, 0, mfn_of(page), 0);
    m = map_one((uint64_t)at, 8, GNTMAP_host_map);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(va_map(at, 0), 0);
    CHECK(!try_read(at, &v));
    CHECK_IN(unmap_one((uint64_t)at, m.handle), GNTST_general_error, GNTST_okay);
    revoke(8);

    section("refusals of map and unmap");
    /* Another's grant, no grant, no frame. */
    grant(10, 5, mfn_of(page), 0);
    CHECK(map_one((uint64_t)at, 10, GNTMAP_host_map).status < 0);
    CHECK_EQ(table[10].flags, GTF_permit_access);
    revoke(10);
    CHECK_IN(map_one((uint64_t)at, 10, GNTMAP_host_map).status, GNTST_bad_gntref,
             GNTST_general_error);
    table[10].flags = GTF_accept_transfer;
    table[10].domid = 0;
    CHECK_IN(map_one((uint64_t)at, 10, GNTMAP_host_map).status, GNTST_bad_gntref,
             GNTST_general_error);
    grant(10, 0, 0x200, 0); /* the hypervisor's own frame */
    CHECK(map_one((uint64_t)at, 10, GNTMAP_host_map).status < 0);
    CHECK_EQ(table[10].flags, GTF_permit_access);
    grant(10, 0, 0xfffffff0, 0);
    CHECK(map_one((uint64_t)at, 10, GNTMAP_host_map).status < 0);
    grant(10, 0, cr3_mfn(), 0);
    CHECK(map_one((uint64_t)at, 10, GNTMAP_host_map).status < 0); /* a page table, writable */
    grant(10, 0, mfn_of(page), 0);
    CHECK_EQ(map_one((uint64_t)at, 0xffffffff, GNTMAP_host_map).status, GNTST_bad_gntref);
    CHECK_EQ(map_one((uint64_t)at, 0x10000, GNTMAP_host_map).status, GNTST_bad_gntref);
    CHECK(map_one((uint64_t)at, 10, 0).status < 0); /* neither host nor device */
    CHECK(map_one(BAD_HYPERVISOR, 10, GNTMAP_host_map).status < 0);
    CHECK(map_one(BAD_NONCANONICAL, 10, GNTMAP_host_map).status < 0);
    CHECK(map_one(BAD_UNMAPPED, 10, GNTMAP_host_map).status < 0);
    CHECK(map_one(0x200000, 10, GNTMAP_host_map | GNTMAP_contains_pte).status < 0);
    CHECK(map_one(~7UL, 10, GNTMAP_host_map | GNTMAP_contains_pte).status < 0);
    CHECK_EQ(table[10].flags, GTF_permit_access); /* nothing was left taken */
    struct gnttab_map_grant_ref foreign = {
        .host_addr = (uint64_t)at, .flags = GNTMAP_host_map, .ref = 10, .dom = 1234};
    CHECK_EQ(op(GNTTABOP_map_grant_ref, &foreign, 1), 0);
    CHECK_EQ(foreign.status, GNTST_bad_domain);
    m = map_one((uint64_t)at, 10, GNTMAP_host_map);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(unmap_one((uint64_t)target[3], m.handle) < 0); /* the wrong address */
    CHECK(unmap_one(BAD_HYPERVISOR, m.handle) < 0);
    CHECK(try_read(at, &v));
    CHECK_EQ(unmap_one((uint64_t)at, m.handle), GNTST_okay);
    CHECK_EQ(unmap_one((uint64_t)at, 0xffffffff), GNTST_bad_handle);
    revoke(10);

    section("unmap_and_replace, swap, transfer");
    struct gnttab_unmap_and_replace r = {.status = 99};
    uint64_t *other = page_alloc();

    grant(10, 0, mfn_of(page), 0);
    m = map_one((uint64_t)at, 10, GNTMAP_host_map);
    other[0] = 0x77;
    r.host_addr = (uint64_t)at;
    r.new_addr = (uint64_t)other;
    r.handle = m.handle;
    CHECK_EQ(op(GNTTABOP_unmap_and_replace, &r, 1), 0);
    CHECK_EQ(r.status, GNTST_okay);
    CHECK(try_read(at, &v));
    CHECK_EQ(v, 0x77);
    CHECK_EQ(pte_get(other), 0);
    CHECK_EQ(map_rw(other), 0);
    CHECK_EQ(va_map(at, 0), 0);
    page_free(other);
    struct gnttab_swap_grant_ref sw = {.ref_a = 10, .ref_b = 11, .status = 99};

    CHECK_EQ(op(GNTTABOP_swap_grant_ref, &sw, 1), 0);
    CHECK_EQ(sw.status, GNTST_okay);
    CHECK_EQ(table[10].flags, 0);
    CHECK_EQ(table[11].frame, mfn_of(page));
    sw.ref_b = 0x7fffffff;
    CHECK_EQ(op(GNTTABOP_swap_grant_ref, &sw, 1), 0);
    CHECK_EQ(sw.status, GNTST_bad_gntref);
    revoke(11);
    /* Trilby has no transfers and may refuse the call as a whole. */
    struct gnttab_transfer t = {.mfn = 0x200, .domid = DOMID_SELF, .ref = 10, .status = 99};
    long ret = op(GNTTABOP_transfer, &t, 1);

    CHECK(ret < 0 || t.status < 0);
    page_free(page);
}

static void arguments(void)
{
    static uint8_t zero[4096];

    section("arguments of grant_table_op");
    for (unsigned cmd = 0; cmd <= 11; cmd++) {
        CHECK_REFUSED(op(cmd, (void *)BAD_UNMAPPED, 1));
        CHECK_REFUSED(op(cmd, (void *)BAD_HYPERVISOR, 1));
        CHECK_REFUSED(op(cmd, (void *)BAD_NONCANONICAL, 1));
        CHECK_REFUSED(op(cmd, (void *)BAD_UNMAPPED, 0x80000000));
    }
    CHECK_EQ(op(13, zero, 1), -XEN_ENOSYS);
    CHECK_REFUSED(op(0x1000, zero, 1));
    CHECK_EQ(op(GNTTABOP_map_grant_ref, zero, 0xffffffff), -XEN_EINVAL);
}

void test_main(void)
{
    setup();
    for (unsigned i = 0; i < 32; i++) {
        target[i] = page_alloc();
        va_map(target[i], 0);
    }
    mappings();
    batches();
    hostile();
    copies();
    arguments();
}
