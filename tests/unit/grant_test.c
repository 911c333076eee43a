/* SOURCES: grant/table.c grant/use.c grant/map.c grant/copy.c hypercall/permission.c mm/page.c mm/page_type.c lib/bitmap.c lib/spinlock.c fake/cpu.c fake/alloc.c fake/domain.c fake/guest.c */
/*
 * Grant tables through the hypercall, over the real page references and types: every map, unmap and
 * copy and its refusals, what the shared entry says meanwhile, revoking, batches, limits, deaths.
 * Page-table entries are a table of the test's that holds references as pv/ does.
 */
#include <threads.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "grant/internal.h"
#include "hypercall/table.h"

extern unsigned fake_guest_fault_in;

static struct domain *zero, *one, *two;
static struct page *page; /* of one's, granted by entry() */

static __thread struct cpu *thread_cpu;
struct cpu *this_cpu(void)
{
    return thread_cpu ? thread_cpu : &fake_cpu[0];
}

static char said[4096]; /* the log since dump_key was pressed */
void log_print(enum log_level level, const char *fmt, ...)
{
    size_t used = strlen(said);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(said + used, sizeof(said) - used, fmt, ap);
    va_end(ap);
}

static key_handler dump_key;
void key_register(char key, const char *help, key_handler fn)
{
    assert_int_equal(key, 'g');
    dump_key = fn;
}

/* --- the mapper's page tables: an entry per "address" --- */

#define ENTRIES 1200

static struct {
    bool used;
    mfn_t frame;
    unsigned flags;
} entry[ENTRIES];
static int map_refuses; /* GNTST_* that the next map answers */
static unsigned flushes_at_unmap;

static int pv_map(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags)
{
    int refuse = map_refuses;
    assert_int_equal(this_cpu()->locks_held, 0);
    map_refuses = 0;
    if (refuse)
        return refuse;
    if (addr >= ENTRIES || entry[addr].used)
        return GNTST_bad_virt_addr;
    assert_true(page_get_any(mfn_to_page(frame)));
    if (!(flags & GNTMAP_readonly))
        assert_int_equal(page_get_type(mfn_to_page(frame), PAGE_WRITABLE), 0);
    entry[addr] = (__typeof__(entry[0])){true, frame, flags};
    return GNTST_okay;
}

static void drop_entry(uint64_t addr)
{
    struct page *p = mfn_to_page(entry[addr].frame);
    entry[addr].used = false;
    if (!(entry[addr].flags & GNTMAP_readonly))
        page_put_type(p);
    page_put(p);
}

static int pv_unmap(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags,
                    uint64_t replace)
{
    assert_int_equal(this_cpu()->locks_held, 0);
    if (addr >= ENTRIES || !entry[addr].used || !mfn_equal(entry[addr].frame, frame) ||
        (flags & GNTMAP_contains_pte) != (entry[addr].flags & GNTMAP_contains_pte))
        return GNTST_bad_virt_addr;
    drop_entry(addr);
    if (replace) {
        entry[addr] = entry[replace];
        entry[replace].used = false;
    }
    flushes_at_unmap = fake_tlb_flushes;
    /* The grant's own reference holds until the TLBs have forgotten. */
    assert_true(mfn_to_page(frame)->refs & PAGE_REF_COUNT);
    return GNTST_okay;
}

static void pv_leave(struct grant_place *at)
{
}

static const struct grant_map_ops pv = {pv_map, pv_unmap, pv_leave};

/* --- set-up --- */

static struct domain *domain_up(domid_t id, bool privileged, int frames, int track)
{
    struct domain *d = fake_domain_new(id, 1, privileged);
    assert_int_equal(grant_domain_init(d, frames, track), 0);
    return d;
}

static void domain_down(struct domain *d)
{
    grant_domain_relinquish(d);
    grant_domain_relinquish(d);
    grant_domain_fini(d);
    fake_domain_free(d);
}

static struct grant_entry_v1 *shared(struct domain *d, uint32_t ref)
{
    return &d->grant->shared[ref / REFS_PER_FRAME][ref % REFS_PER_FRAME];
}

static void grant(struct domain *d, uint32_t ref, domid_t to, struct page *p, uint16_t flags)
{
    *shared(d, ref) = (struct grant_entry_v1){
        .flags = GTF_permit_access | flags, .domid = to, .frame = page_to_mfn(p).n};
}

static int setup(void **state)
{
    mfn_t frame;
    fake_ram_reset();
    fake_alloc_live = fake_alloc_fail_in = 0;
    fake_guest_fault_in = 0;
    fake_tlb_flushes = 0;
    map_refuses = 0;
    memset(entry, 0, sizeof(entry));
    grant_pv_ops = &pv;
    zero = domain_up(0, true, -1, 4);
    one = domain_up(1, false, 4, -1);
    two = domain_up(2, false, -1, -1);
    assert_int_equal(grant_table_frame(one, 0, &frame), 0);
    page = fake_domain_page(one);
    fake_current(zero->vcpu[0]);
    return 0;
}

static int teardown(void **state)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        if (entry[i].used)
            drop_entry(i);
    grant_domain_relinquish(zero);
    grant_domain_relinquish(two);
    /* Everything has been given back but the allocation. */
    assert_int_equal(page->refs, PAGE_REF_ALLOCATED | 1);
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 0);
    fake_domain_page_drop(page);
    domain_down(one);
    domain_down(two);
    domain_down(zero);
    assert_int_equal(fake_alloc_live, 0);
    return 0;
}

static long op(unsigned cmd, void *arg, unsigned count)
{
    return hc_grant_table_op(cmd, (uint64_t)arg, count);
}

static struct gnttab_map_grant_ref map_flags(uint32_t ref, uint64_t addr, uint32_t flags)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = addr, .flags = flags, .ref = ref, .dom = 1, .status = 77};
    assert_int_equal(op(GNTTABOP_map_grant_ref, &m, 1), 0);
    return m;
}

static int map_status(uint32_t ref, uint64_t addr, uint32_t flags)
{
    return map_flags(ref, addr, flags).status;
}

static grant_handle_t map_ok(uint32_t ref, uint64_t addr, uint32_t flags)
{
    struct gnttab_map_grant_ref m = map_flags(ref, addr, flags);
    assert_int_equal(m.status, GNTST_okay);
    return m.handle;
}

static int unmap(grant_handle_t handle, uint64_t addr, uint64_t bus)
{
    struct gnttab_unmap_grant_ref u = {
        .host_addr = addr, .dev_bus_addr = bus, .handle = handle, .status = 77};
    assert_int_equal(op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    return u.status;
}

#define MARKS (GTF_reading | GTF_writing)

/* --- tables --- */

static void test_setup_table(void **state)
{
    xen_pfn_t frames[8] = {0};
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 3, .frame_list = {frames}};
    fake_current(one->vcpu[0]);
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_okay);
    for (unsigned i = 0; i < 3; i++) {
        assert_ptr_equal(mfn_to_page(mfn(frames[i]))->owner, one);
        assert_int_equal(frames[i], virt_to_mfn(one->grant->shared[i]).n);
    }
    struct gnttab_query_size q = {.dom = DOMID_SELF};
    assert_int_equal(op(GNTTABOP_query_size, &q, 1), 0);
    assert_int_equal(q.status, GNTST_okay);
    assert_int_equal(q.nr_frames, 3);
    assert_int_equal(q.max_nr_frames, 4);
    assert_true(one->overhead_pages >= 3);

    s.nr_frames = 5;
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_general_error);
    s.nr_frames = 4;
    fake_alloc_fail_in = 1;
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_general_error);
    fake_alloc_fail_in = 2;
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_general_error);
    assert_int_equal(grant_table_frames(one), 3);
    s.frame_list.p = NULL;
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_bad_virt_addr);

    s.dom = 2;
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_permission_denied);
    q.dom = 6;
    assert_int_equal(op(GNTTABOP_query_size, &q, 1), 0);
    assert_int_equal(q.status, GNTST_bad_domain);
    assert_int_equal(op(GNTTABOP_setup_table, &s, 2), -XEN_EINVAL);
    assert_int_equal(op(GNTTABOP_query_size, NULL, 1), -XEN_EFAULT);

    mfn_t frame;
    assert_int_equal(grant_table_frame(one, 4, &frame), -XEN_EINVAL);
    assert_int_equal(grant_table_frame(one, 3, &frame), 0);
    assert_int_equal(grant_table_frames(one), 4);
}

static void test_init_fails(void **state)
{
    struct domain *d = fake_domain_new(3, 1, false);
    for (unsigned n = 1; n <= 3; n++) {
        fake_alloc_fail_in = n;
        assert_int_equal(grant_domain_init(d, -1, -1), -XEN_ENOMEM);
        assert_null(d->grant);
    }
    assert_int_equal(grant_domain_init(d, 1 << 20, -1), -XEN_EINVAL);
    assert_int_equal(grant_domain_init(d, -1, 1 << 20), -XEN_EINVAL);
    assert_int_equal(grant_domain_init(d, 0, 0), 0);
    grant_domain_fini(d);
    fake_domain_free(d);
}

static void test_versions_and_refusals(void **state)
{
    struct gnttab_set_version v = {.version = 1};
    struct gnttab_get_version g = {.dom = DOMID_SELF};
    assert_int_equal(op(GNTTABOP_set_version, &v, 1), 0);
    v.version = 2;
    assert_int_equal(op(GNTTABOP_set_version, &v, 1), -XEN_ENOSYS);
    v.version = 3;
    assert_int_equal(op(GNTTABOP_set_version, &v, 1), -XEN_EINVAL);
    assert_int_equal(op(GNTTABOP_get_version, &g, 1), 0);
    assert_int_equal(g.version, 1);
    g.dom = 6;
    assert_int_equal(op(GNTTABOP_get_version, &g, 1), -XEN_ESRCH);
    g.dom = 2;
    fake_current(one->vcpu[0]);
    assert_int_equal(op(GNTTABOP_get_version, &g, 1), -XEN_EPERM);
    struct gnttab_dump_table t = {.dom = DOMID_SELF};
    assert_int_equal(op(GNTTABOP_dump_table, &t, 1), 0);
    assert_int_equal(t.status, GNTST_permission_denied);
    fake_current(zero->vcpu[0]);
    assert_int_equal(op(GNTTABOP_dump_table, &t, 1), 0);
    assert_int_equal(t.status, GNTST_okay);

    assert_int_equal(op(GNTTABOP_transfer, NULL, 1), -XEN_EOPNOTSUPP);
    assert_int_equal(op(GNTTABOP_get_status_frames, NULL, 1), -XEN_EOPNOTSUPP);
    assert_int_equal(op(GNTTABOP_cache_flush, NULL, 1), -XEN_ENOSYS);
    assert_int_equal(op(99, NULL, 1), -XEN_ENOSYS);
    assert_int_equal(hc_grant_table_op(GNTTABOP_copy, 0, 1UL << 31), -XEN_EINVAL);
}

/* --- mapping --- */

static void test_map_writable(void **state)
{
    grant(one, 5, 0, page, 0);
    uint32_t refs = one->refs;
    struct gnttab_map_grant_ref m = map_flags(5, 1, GNTMAP_host_map | GNTMAP_device_map);
    assert_int_equal(m.status, GNTST_okay);
    assert_int_equal(m.dev_bus_addr, page_to_mfn(page).n << PAGE_SHIFT);
    assert_int_equal(one->refs, refs + 1);
    assert_int_equal(shared(one, 5)->flags & MARKS, MARKS);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 3); /* allocation, entry, grant */
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 2);

    /* One half after the other. */
    assert_int_equal(unmap(m.handle, 1, 0), GNTST_okay);
    assert_int_equal(shared(one, 5)->flags & MARKS, MARKS);
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 1);
    assert_int_equal(unmap(m.handle, 1, 0), GNTST_bad_virt_addr);
    assert_int_equal(unmap(m.handle, 0, m.dev_bus_addr + PAGE_SIZE), GNTST_bad_dev_addr);
    assert_int_equal(unmap(m.handle, 0, 0), GNTST_okay); /* nothing asked */
    assert_int_equal(unmap(m.handle, 0, m.dev_bus_addr), GNTST_okay);
    assert_int_equal(shared(one, 5)->flags, GTF_permit_access);
    assert_int_equal(one->refs, refs);
    assert_int_equal(unmap(m.handle, 0, m.dev_bus_addr), GNTST_bad_handle);
}

static void test_debug_key(void **state)
{
    grant_init();
    grant(one, 5, 0, page, 0);
    struct gnttab_map_grant_ref m = map_flags(5, 1, GNTMAP_host_map);
    said[0] = 0;
    dump_key('g');
    assert_non_null(strstr(said, "d0: grant table: 0 of 64 frames, 1 of "));
    assert_non_null(strstr(said, "ref 5: frame"));
    assert_non_null(strstr(said, "used by d0, 0 readers, 1 writers"));
    assert_int_equal(unmap(m.handle, 1, 0), GNTST_okay);
    said[0] = 0;
    dump_key('g');
    assert_non_null(strstr(said, "d0: grant table: 0 of 64 frames, 0 of "));
    assert_null(strstr(said, "ref 5"));
}

static void test_map_readonly(void **state)
{
    grant(one, 5, 0, page, GTF_readonly);
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_permission_denied);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
    /* The bus address is told without GNTMAP_device_map too: Linux fills its p2m from it. */
    struct gnttab_map_grant_ref m = map_flags(5, 1, GNTMAP_host_map | GNTMAP_readonly);
    assert_int_equal(m.status, GNTST_okay);
    assert_int_equal(m.dev_bus_addr, page_to_mfn(page).n << PAGE_SHIFT);
    grant_handle_t h = m.handle;
    assert_int_equal(shared(one, 5)->flags & MARKS, GTF_reading);
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 0); /* may still become a page table */
    assert_int_equal(map_status(5, 2, GNTMAP_host_map), GNTST_permission_denied);

    /* The granter makes it writable: now a second mapping may write, and then not any more. */
    shared(one, 5)->flags &= ~GTF_readonly;
    grant_handle_t w = map_ok(5, 2, GNTMAP_host_map);
    assert_int_equal(shared(one, 5)->flags & MARKS, MARKS);
    assert_int_equal(unmap(w, 2, 0), GNTST_okay);
    assert_int_equal(shared(one, 5)->flags & MARKS, GTF_reading);
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 0);
    assert_int_equal(unmap(h, 1, 0), GNTST_okay);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
}

static void test_map_refusals(void **state)
{
    grant(one, 5, 0, page, 0);
    struct gnttab_map_grant_ref m = {.flags = GNTMAP_host_map, .ref = 5, .dom = 6, .host_addr = 1};
    assert_int_equal(op(GNTTABOP_map_grant_ref, &m, 1), 0);
    assert_int_equal(m.status, GNTST_bad_domain);
    assert_int_equal(map_status(5, 1, 0), GNTST_general_error);
    assert_int_equal(map_status(REFS_PER_FRAME, 1, GNTMAP_host_map), GNTST_bad_gntref);
    assert_int_equal(map_status(~0u, 1, GNTMAP_host_map), GNTST_bad_gntref);
    assert_int_equal(map_status(6, 1, GNTMAP_host_map), GNTST_bad_gntref); /* never granted */
    grant(one, 5, 2, page, 0);
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_bad_gntref); /* not to us */
    shared(one, 5)->domid = 0;
    shared(one, 5)->flags = GTF_accept_transfer | GTF_transfer_completed;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_bad_gntref);
    assert_int_equal(shared(one, 5)->flags, GTF_accept_transfer | GTF_transfer_completed);
    shared(one, 5)->flags = GTF_permit_access | GTF_sub_page;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_bad_gntref);

    /* Not the granter's, no RAM, or used as a page table. */
    struct page *foreign = fake_domain_page(two);
    grant(one, 5, 0, foreign, 0);
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_bad_page);
    assert_int_equal(shared(one, 5)->flags, GTF_permit_access);
    fake_domain_page_drop(foreign);
    shared(one, 5)->frame = ~0u;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_bad_page);
    grant(one, 5, 0, page, 0);
    page->type = (uint64_t)PAGE_L1 << PAGE_TYPE_SHIFT | PAGE_TYPE_VALIDATED | 1;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_bad_page);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 1);
    grant_handle_t h = map_ok(5, 1, GNTMAP_host_map | GNTMAP_readonly); /* reading it is fine */
    assert_int_equal(unmap(h, 1, 0), GNTST_okay);
    page->type = 0;

    /* The entry cannot be written. */
    map_refuses = GNTST_bad_virt_addr;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map | GNTMAP_device_map), GNTST_bad_virt_addr);
    assert_int_equal(shared(one, 5)->flags, GTF_permit_access);
    assert_int_equal(unmap(h, 1, 0), GNTST_bad_handle);

    assert_int_equal(op(GNTTABOP_map_grant_ref, NULL, 1), -XEN_EFAULT);
    assert_int_equal(op(GNTTABOP_map_grant_ref, NULL, 0), 0);
    assert_int_equal(unmap(12345678, 1, 0), GNTST_bad_handle);
}

/* Mapped while the granter changes its mind. */
static void test_revoke(void **state)
{
    struct page *other = fake_domain_page(one);
    grant(one, 5, 0, page, 0);
    grant_handle_t h = map_ok(5, 1, GNTMAP_host_map);

    shared(one, 5)->frame = page_to_mfn(other).n; /* another page: the old one stays */
    grant_handle_t again = map_ok(5, 2, GNTMAP_host_map);
    assert_int_equal(entry[2].frame.n, page_to_mfn(page).n);
    assert_int_equal(unmap(again, 2, 0), GNTST_okay);

    shared(one, 5)->domid = 2; /* another grantee: not before the old one is done */
    fake_current(two->vcpu[0]);
    assert_int_equal(map_status(5, 3, GNTMAP_host_map), GNTST_bad_gntref);
    fake_current(zero->vcpu[0]);
    assert_int_equal(map_status(5, 3, GNTMAP_host_map), GNTST_bad_gntref);

    *shared(one, 5) = (struct grant_entry_v1){0}; /* pulled away altogether */
    assert_int_equal(map_status(5, 3, GNTMAP_host_map), GNTST_bad_gntref);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 3);
    assert_int_equal(unmap(h, 1, 0), GNTST_okay);
    assert_int_equal(shared(one, 5)->flags, 0);
    fake_domain_page_drop(other);
}

static void test_own_grant(void **state)
{
    fake_current(one->vcpu[0]);
    grant(one, 5, 1, page, 0);
    grant_handle_t h = map_ok(5, 1, GNTMAP_host_map);
    assert_int_equal(unmap(h, 1, 0), GNTST_okay);
    h = map_ok(5, 1, GNTMAP_host_map); /* and by its death */
    drop_entry(1);
    grant_domain_relinquish(one);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 1);
}

static void test_contains_pte(void **state)
{
    grant(one, 5, 0, page, 0);
    grant_handle_t h = map_ok(5, 1, GNTMAP_host_map | GNTMAP_contains_pte);
    assert_int_equal(unmap(h, 2, 0), GNTST_bad_virt_addr); /* nothing there: still mapped */
    assert_int_equal(shared(one, 5)->flags & MARKS, MARKS);
    assert_int_equal(unmap(h, 1, 0), GNTST_okay); /* told as an entry's address again */
}

static void test_unmap_and_replace(void **state)
{
    struct page *mine = fake_domain_page(zero);
    grant(one, 5, 0, page, 0);
    grant_handle_t h = map_ok(5, 1, GNTMAP_host_map);
    entry[7] = (__typeof__(entry[0])){true, page_to_mfn(mine), GNTMAP_readonly};
    assert_true(page_get(mine, zero));
    struct gnttab_unmap_and_replace r[2] = {{.host_addr = 1, .handle = h},
                                            {.host_addr = 1, .new_addr = 7, .handle = h}};
    assert_int_equal(op(GNTTABOP_unmap_and_replace, r, 2), 0);
    assert_int_equal(r[0].status, GNTST_bad_virt_addr);
    assert_int_equal(r[1].status, GNTST_okay);
    assert_int_equal(entry[1].frame.n, page_to_mfn(mine).n);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
    drop_entry(1);
    fake_domain_page_drop(mine);
}

/* --- batches and limits --- */

#define BATCH 100

static void test_batch(void **state)
{
    static struct gnttab_map_grant_ref m[BATCH];
    static struct gnttab_unmap_grant_ref u[BATCH];
    grant(one, 5, 0, page, 0);
    for (unsigned i = 0; i < BATCH; i++)
        m[i] = (struct gnttab_map_grant_ref){
            .host_addr = i + 1, .flags = GNTMAP_host_map, .ref = i == 50 ? 6 : 5, .dom = 1};
    unsigned preempts = fake_preempts;
    assert_int_equal(op(GNTTABOP_map_grant_ref, m, BATCH), 0);
    assert_int_equal(fake_preempts, preempts + BATCH / OPS_PER_SLICE);
    for (unsigned i = 0; i < BATCH; i++) { /* one refusal does not stop the others */
        assert_int_equal(m[i].status, i == 50 ? GNTST_bad_gntref : GNTST_okay);
        u[i] = (struct gnttab_unmap_grant_ref){.host_addr = i + 1, .handle = m[i].handle};
    }
    u[50].handle = u[49].handle; /* twice in one slice */
    unsigned flushes = fake_tlb_flushes;
    assert_int_equal(op(GNTTABOP_unmap_grant_ref, u, BATCH), 0);
    for (unsigned i = 0; i < BATCH; i++)
        assert_int_equal(u[i].status, i == 50 ? GNTST_bad_handle : GNTST_okay);
    assert_int_equal(fake_tlb_flushes, flushes + (BATCH + OPS_PER_SLICE - 1) / OPS_PER_SLICE);
    assert_int_equal(fake_tlb_mask.bits[0], zero->dirty_cpus.bits[0]);
    assert_true(fake_tlb_flushes > flushes_at_unmap);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
}

/* The guest's array ends in the middle: what was done is whole. */
static void test_batch_faults(void **state)
{
    struct gnttab_unmap_grant_ref u[3];
    struct gnttab_map_grant_ref m = {.host_addr = 9, .flags = GNTMAP_host_map, .ref = 5, .dom = 1};
    grant(one, 5, 0, page, 0);
    for (unsigned i = 0; i < 3; i++)
        u[i] = (struct gnttab_unmap_grant_ref){.host_addr = i + 1,
                                               .handle = map_ok(5, i + 1, GNTMAP_host_map)};
    fake_guest_fault_in = 3;
    assert_int_equal(op(GNTTABOP_unmap_grant_ref, u, 3), -XEN_EFAULT);
    assert_false(entry[1].used || entry[2].used);
    assert_true(entry[3].used);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 3); /* allocation, third mapping twice */
    fake_guest_fault_in = 2; /* unmapped, though the status cannot be told */
    assert_int_equal(op(GNTTABOP_unmap_grant_ref, &u[2], 1), -XEN_EFAULT);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 1);
    fake_guest_fault_in = 2; /* the answer cannot be told: the mapping is there until death */
    assert_int_equal(op(GNTTABOP_map_grant_ref, &m, 1), -XEN_EFAULT);
    assert_true(entry[9].used);
}

static void test_handle_limit(void **state)
{
    grant(one, 5, 0, page, 0);
    unsigned limit = 4 * HANDLES_PER_FRAME; /* as set up for domain 0 */
    fake_alloc_fail_in = 1;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_no_space);
    fake_alloc_fail_in = 2;
    assert_int_equal(map_status(5, 1, GNTMAP_host_map), GNTST_no_space);
    for (unsigned i = 0; i < limit; i++)
        map_ok(5, i + 1, GNTMAP_host_map);
    assert_int_equal(map_status(5, 0, GNTMAP_host_map), GNTST_no_space);
    assert_int_equal(unmap(77, 78, 0), GNTST_okay);
    assert_int_equal(map_ok(5, 78, GNTMAP_host_map), 77);
    assert_true(zero->overhead_pages >= 4);
}

static void test_many_uses(void **state)
{
    mfn_t frame;
    grant(one, 5, 0, page, 0);
    struct grant_use use = {one, 5, true};
    for (unsigned i = 0; i < UINT16_MAX; i++)
        assert_int_equal(grant_use(&use, 0, &frame), GNTST_okay);
    assert_int_equal(grant_use(&use, 0, &frame), GNTST_no_space);
    for (unsigned i = 0; i < UINT16_MAX; i++)
        grant_unuse(&use);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
}

/* --- swap --- */

static void test_swap(void **state)
{
    fake_current(one->vcpu[0]);
    grant(one, 5, 0, page, 0);
    struct gnttab_swap_grant_ref s[3] = {{5, 9, 77}, {5, REFS_PER_FRAME, 77}, {~0u, 5, 77}};
    assert_int_equal(op(GNTTABOP_swap_grant_ref, s, 3), 0);
    assert_int_equal(s[0].status, GNTST_okay);
    assert_int_equal(s[1].status, GNTST_bad_gntref);
    assert_int_equal(s[2].status, GNTST_bad_gntref);
    assert_int_equal(shared(one, 5)->flags, 0);
    assert_int_equal(shared(one, 9)->frame, page_to_mfn(page).n);
    fake_current(zero->vcpu[0]);
    map_ok(9, 1, GNTMAP_host_map);
    fake_current(one->vcpu[0]);
    assert_int_equal(op(GNTTABOP_swap_grant_ref, s, 1), 0);
    assert_int_equal(s[0].status, GNTST_eagain);
    fake_current(zero->vcpu[0]);
}

/* --- copying --- */

static struct gnttab_copy copy_of(struct gnttab_copy c)
{
    c.status = 77;
    assert_int_equal(op(GNTTABOP_copy, &c, 1), 0);
    return c;
}

static void test_copy(void **state)
{
    struct page *mine = fake_domain_page(zero);
    char *theirs = page_to_virt(page), *ours = page_to_virt(mine);
    strcpy(theirs + 100, "from the granter");
    grant(one, 5, 0, page, GTF_readonly);
    struct gnttab_copy c = {.source = {.u.ref = 5, .domid = 1, .offset = 100},
                            .dest = {.u.gmfn = page_to_mfn(mine).n, .domid = DOMID_SELF},
                            .len = 17,
                            .flags = GNTCOPY_source_gref};
    assert_int_equal(copy_of(c).status, GNTST_okay);
    assert_string_equal(ours, "from the granter");
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);

    struct gnttab_copy back = {
        .source = c.dest, .dest = c.source, .len = 17, .flags = GNTCOPY_dest_gref};
    assert_int_equal(copy_of(back).status, GNTST_permission_denied);
    shared(one, 5)->flags &= ~GTF_readonly;
    strcpy(ours, "to the granter  ");
    assert_int_equal(copy_of(back).status, GNTST_okay);
    assert_string_equal(theirs + 100, "to the granter  ");

    /* From one grant to another, of two domains; and within one page, overlapping. */
    struct page *third = fake_domain_page(two);
    mfn_t frame;
    assert_int_equal(grant_table_frame(two, 0, &frame), 0);
    grant(two, 3, 0, third, 0);
    struct gnttab_copy across = {.source = c.source,
                                 .dest = {.u.ref = 3, .domid = 2},
                                 .len = 4,
                                 .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref};
    assert_int_equal(copy_of(across).status, GNTST_okay);
    assert_memory_equal(page_to_virt(third), "to t", 4);
    across.dest = (struct gnttab_copy_ptr){.u.ref = 5, .domid = 1, .offset = 101};
    assert_int_equal(copy_of(across).status, GNTST_okay);
    assert_memory_equal(theirs + 100, "tto t", 5);

    across.len = PAGE_SIZE, across.source.offset = across.dest.offset = 0;
    assert_int_equal(copy_of(across).status, GNTST_okay);
    fake_domain_page_drop(third);
    fake_domain_page_drop(mine);
}

static void test_copy_refusals(void **state)
{
    struct page *mine = fake_domain_page(zero), *foreign = fake_domain_page(two);
    uint64_t gmfn = page_to_mfn(mine).n;
    grant(one, 5, 0, page, 0);
    const struct gnttab_copy good = {.source = {.u.ref = 5, .domid = 1},
                                     .dest = {.u.gmfn = gmfn, .domid = DOMID_SELF},
                                     .len = 1,
                                     .flags = GNTCOPY_source_gref};
    struct gnttab_copy c = good;
    c.source.offset = PAGE_SIZE;
    assert_int_equal(copy_of(c).status, GNTST_bad_copy_arg);
    c = good, c.dest.offset = 4000, c.len = 97;
    assert_int_equal(copy_of(c).status, GNTST_bad_copy_arg);
    c = good, c.source.offset = c.len = UINT16_MAX;
    assert_int_equal(copy_of(c).status, GNTST_bad_copy_arg);
    c = good, c.flags = 0xff;
    assert_int_equal(copy_of(c).status, GNTST_bad_copy_arg);
    c = good, c.source.domid = 6;
    assert_int_equal(copy_of(c).status, GNTST_bad_domain);
    c = good, c.source.u.ref = 6;
    assert_int_equal(copy_of(c).status, GNTST_bad_gntref);
    c = good, c.dest.u.gmfn = page_to_mfn(foreign).n;
    assert_int_equal(copy_of(c).status, GNTST_bad_page);
    c = good, c.dest.u.gmfn = ~0UL;
    assert_int_equal(copy_of(c).status, GNTST_bad_page);
    c = good, c.dest.u.gmfn = page_to_mfn(foreign).n, c.dest.domid = 2;
    assert_int_equal(copy_of(c).status, GNTST_permission_denied);
    c = good, c.dest.domid = 0; /* itself by its number */
    assert_int_equal(copy_of(c).status, GNTST_okay);
    c = good, c.source.u.gmfn = gmfn, c.source.domid = 1, c.flags = 0;
    assert_int_equal(copy_of(c).status, GNTST_permission_denied);
    mine->type = (uint64_t)PAGE_L2 << PAGE_TYPE_SHIFT | PAGE_TYPE_VALIDATED | 1;
    assert_int_equal(copy_of(good).status, GNTST_bad_page); /* never into a page table */
    mine->type = 0;
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);

    struct gnttab_copy many[BATCH];
    for (unsigned i = 0; i < BATCH; i++)
        many[i] = good;
    unsigned preempts = fake_preempts;
    assert_int_equal(op(GNTTABOP_copy, many, BATCH), 0);
    assert_true(fake_preempts > preempts);
    assert_int_equal(op(GNTTABOP_copy, NULL, 1), -XEN_EFAULT);
    fake_domain_page_drop(mine);
    fake_domain_page_drop(foreign);
}

/* --- deaths --- */

static void test_mapper_dies(void **state)
{
    grant(one, 5, 2, page, 0);
    fake_current(two->vcpu[0]);
    uint32_t refs = one->refs;
    for (unsigned i = 0; i < 50; i++)
        map_ok(5, i + 1, GNTMAP_host_map | (i & 1 ? GNTMAP_device_map : 0));
    map_ok(5, 60, GNTMAP_host_map | GNTMAP_readonly);
    unsigned flushes = fake_tlb_flushes;
    grant_domain_relinquish(two);
    assert_int_equal(fake_tlb_flushes, flushes + 1);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
    assert_int_equal(one->refs, refs);
    assert_int_equal(map_status(5, 70, GNTMAP_host_map), GNTST_no_space); /* nothing new */
    fake_current(zero->vcpu[0]);
}

static void test_granter_dies(void **state)
{
    grant(one, 5, 0, page, 0);
    grant_handle_t h = map_ok(5, 1, GNTMAP_host_map);
    grant_domain_relinquish(one);
    assert_int_equal(map_status(5, 2, GNTMAP_host_map), GNTST_bad_domain);
    mfn_t frame;
    assert_int_equal(grant_table_frame(one, 0, &frame), 0); /* those there are */
    assert_int_equal(grant_table_frame(one, 1, &frame), -XEN_EINVAL);

    /* Its memory goes; the mapped page stays until it is unmapped. */
    unsigned before = fake_ram_free();
    struct page *gone = page;
    fake_domain_page_drop(gone);
    assert_int_equal(fake_ram_free(), before);
    assert_int_equal(unmap(h, 1, 0), GNTST_okay);
    assert_int_equal(fake_ram_free(), before + 1);
    page = fake_domain_page(one); /* for teardown */
}

/* A table frame that somebody still maps is lost rather than reused. */
static void test_frame_still_mapped(void **state)
{
    struct domain *d = domain_up(3, false, -1, -1);
    mfn_t frame;
    assert_int_equal(grant_table_frame(d, 0, &frame), 0);
    assert_true(page_get(mfn_to_page(frame), d));
    unsigned before = fake_ram_free();
    grant_domain_fini(d);
    assert_int_equal(fake_ram_free(), before);
    assert_true(mfn_to_page(frame)->owner != d);
    fake_domain_free(d);
    fake_alloc_live--; /* the frame */
}

/* --- races --- */

static volatile bool stop;

/* The granter's guest keeps changing the entry. */
static int scribbler(void *arg)
{
    uint32_t seed = 3;
    while (!stop) {
        seed = seed * 1664525 + 1013904223;
        shared(one, 5)->flags = seed >> 16 & 0x1f;
        if (seed & 1)
            shared(one, 5)->frame = page_to_mfn(page).n;
        else
            shared(one, 5)->frame = seed;
    }
    return 0;
}

static void test_hostile_granter(void **state)
{
    thrd_t t;
    grant(one, 5, 0, page, 0);
    stop = false;
    assert_int_equal(thrd_create(&t, scribbler, NULL), thrd_success);
    for (unsigned i = 0; i < 20000; i++) {
        struct gnttab_map_grant_ref m =
            map_flags(5, 1, GNTMAP_host_map | (i & 1 ? GNTMAP_readonly : 0));
        if (m.status == GNTST_okay)
            assert_int_equal(unmap(m.handle, 1, 0), GNTST_okay);
    }
    stop = true;
    thrd_join(t, NULL);
    assert_int_equal(page->refs & PAGE_REF_COUNT, 1);
}

/* Another grantee's vCPU copies while ours maps and unmaps: counts come out even. */
static int copier(void *arg)
{
    static struct cpu cpu;
    static struct gnttab_copy c;
    thread_cpu = &cpu;
    cpu.current = zero->vcpu[0];
    c = *(struct gnttab_copy *)arg;
    for (unsigned i = 0; i < 20000; i++)
        if (op(GNTTABOP_copy, &c, 1) || c.status)
            return 1;
    return 0;
}

static void test_concurrent_use(void **state)
{
    struct page *mine = fake_domain_page(zero);
    struct gnttab_copy c = {.source = {.u.gmfn = page_to_mfn(mine).n, .domid = DOMID_SELF},
                            .dest = {.u.ref = 5, .domid = 1},
                            .len = 8,
                            .flags = GNTCOPY_dest_gref};
    thrd_t t;
    int failed;
    grant(one, 5, 0, page, 0);
    assert_int_equal(thrd_create(&t, copier, &c), thrd_success);
    for (unsigned i = 0; i < 20000; i++) {
        grant_handle_t h = map_ok(5, 1, GNTMAP_host_map | (i & 1 ? GNTMAP_readonly : 0));
        assert_int_equal(unmap(h, 1, 0), GNTST_okay);
    }
    thrd_join(t, &failed);
    assert_int_equal(failed, 0);
    assert_int_equal(shared(one, 5)->flags & MARKS, 0);
    fake_domain_page_drop(mine);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_setup_table),
        TEST(test_init_fails),
        TEST(test_versions_and_refusals),
        TEST(test_map_writable),
        TEST(test_debug_key),
        TEST(test_map_readonly),
        TEST(test_map_refusals),
        TEST(test_revoke),
        TEST(test_own_grant),
        TEST(test_contains_pte),
        TEST(test_unmap_and_replace),
        TEST(test_batch),
        TEST(test_batch_faults),
        TEST(test_handle_limit),
        TEST(test_many_uses),
        TEST(test_swap),
        TEST(test_copy),
        TEST(test_copy_refusals),
        TEST(test_mapper_dies),
        TEST(test_granter_dies),
        TEST(test_frame_still_mapped),
        TEST(test_hostile_granter),
        TEST(test_concurrent_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
