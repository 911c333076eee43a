/* SOURCES: grant/table.c grant/use.c grant/map.c grant/copy.c hypercall/permission.c */
/* SOURCES: mm/page.c mm/page_type.c lib/bitmap.c lib/spinlock.c fake/cpu.c fake/alloc.c */
/* SOURCES: fake/domain.c fake/guest.c */
/*
 * Grants among three domains, each writing what it likes into its table. A map or copy succeeds
 * only where the entry allowed it; after everybody has died no page has a reference or a use too
 * many.
 */
#include "fuzz.h"

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "grant/internal.h"
#include "hypercall/table.h"

struct cpu *this_cpu(void)
{
    return &fake_cpu[0];
}

void key_register(char key, const char *help, key_handler fn)
{
}

enum { DOMAINS = 3, PAGES = 4, REFS = 12, ENTRIES = 16, HANDLES = 24 };

static struct domain *domain[DOMAINS];
static struct page *page[DOMAINS][PAGES];

/* --- the mappers' page tables: an entry per address, 1 to ENTRIES --- */

static struct {
    bool used, writable;
    mfn_t frame;
} entry[ENTRIES + 1];

static int pv_map(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags)
{
    struct page *p = mfn_to_page(frame);
    bool writable = !(flags & GNTMAP_readonly);
    if (addr < 1 || addr > ENTRIES || entry[addr].used)
        return GNTST_bad_virt_addr;
    CHECK(page_get_any(p));
    CHECK(!writable || page_get_type(p, PAGE_WRITABLE) == 0);
    entry[addr] = (__typeof__(entry[0])){true, writable, frame};
    return GNTST_okay;
}

static void drop(uint64_t addr)
{
    struct page *p = mfn_to_page(entry[addr].frame);
    if (!entry[addr].used)
        return;
    entry[addr].used = false;
    if (entry[addr].writable)
        page_put_type(p);
    page_put(p);
}

static int pv_unmap(struct grant_place *at, uint64_t addr, mfn_t frame, unsigned flags,
                    uint64_t replace)
{
    if (addr < 1 || addr > ENTRIES || !entry[addr].used || !mfn_equal(entry[addr].frame, frame))
        return GNTST_bad_virt_addr;
    drop(addr);
    return GNTST_okay;
}

static void pv_leave(struct grant_place *at)
{
}

static const struct grant_map_ops pv = {pv_map, pv_unmap, pv_leave};

static long op(unsigned d, unsigned cmd, void *arg)
{
    fake_current(domain[d]->vcpu[0]);
    return hc_grant_table_op(cmd, (uint64_t)arg, 1);
}

static struct grant_entry_v1 *shared(unsigned d, uint32_t ref)
{
    return &domain[d]->grant->shared[0][ref];
}

/* A guest writes an entry: sensible ones mostly. */
static void write_entry(unsigned d)
{
    struct grant_entry_v1 *e = shared(d, take8() % REFS);
    unsigned choice = take8();
    e->flags = choice & 0x80 ? take8() : GTF_permit_access | (choice & 1 ? GTF_readonly : 0);
    e->domid = take8() % (DOMAINS + 1);
    unsigned owner = choice & 0x40 ? take8() % DOMAINS : d;
    e->frame = choice & 0x20 ? take32() : page_to_mfn(page[owner][take8() % PAGES]).n;
}

static void map(unsigned d)
{
    unsigned from = take8() % (DOMAINS + 1);
    struct gnttab_map_grant_ref m = {
        .dom = from, .ref = take8() % (REFS + 2), .host_addr = take8() % (ENTRIES + 2)};
    m.flags = take8() % 8; /* device, host, read-only */
    struct grant_entry_v1 before = {0};
    if (from < DOMAINS && m.ref < REFS)
        before = *shared(from, m.ref);
    CHECK(op(d, GNTTABOP_map_grant_ref, &m) == 0);
    if (m.status != GNTST_okay)
        return;
    CHECK((before.flags & GTF_type_mask) == GTF_permit_access && before.domid == domain[d]->id);
    CHECK((m.flags & GNTMAP_readonly) || !(before.flags & GTF_readonly));
    mfn_t frame = maddr_to_mfn(maddr(m.dev_bus_addr));
    CHECK(mfn_to_page(frame)->owner == domain[from]);
    CHECK(shared(from, m.ref)->flags & GTF_reading);
}

static void unmap(unsigned d)
{
    struct gnttab_unmap_grant_ref u = {.handle = take8() % HANDLES,
                                       .host_addr = take8() % (ENTRIES + 2)};
    CHECK(op(d, GNTTABOP_unmap_grant_ref, &u) == 0);
}

static void copy_side(struct gnttab_copy_ptr *p, unsigned d, bool by_ref)
{
    p->domid = by_ref ? take8() % (DOMAINS + 1) : DOMID_SELF;
    if (by_ref)
        p->u.ref = take8() % (REFS + 2);
    else
        p->u.gmfn = take8() & 1 ? page_to_mfn(page[take8() % DOMAINS][0]).n : take32();
    p->offset = take8() * 20;
}

static void copy(unsigned d)
{
    struct gnttab_copy c = {.flags = take8() % 4, .len = take8() * 20};
    copy_side(&c.source, d, c.flags & GNTCOPY_source_gref);
    copy_side(&c.dest, d, c.flags & GNTCOPY_dest_gref);
    CHECK(op(d, GNTTABOP_copy, &c) == 0);
    if (c.status != GNTST_okay)
        return;
    CHECK(c.source.offset + c.len <= PAGE_SIZE && c.dest.offset + c.len <= PAGE_SIZE);
    if (c.flags & GNTCOPY_dest_gref)
        CHECK(!(shared(c.dest.domid, c.dest.u.ref)->flags & GTF_readonly));
}

static void swap(unsigned d)
{
    struct gnttab_swap_grant_ref s = {.ref_a = take8() % REFS, .ref_b = take8() % REFS};
    CHECK(op(d, GNTTABOP_swap_grant_ref, &s) == 0);
}

static void (*const actions[])(unsigned) = {write_entry, write_entry, map,  map,
                                            unmap,       unmap,       copy, swap};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mfn_t frame;
    input = data;
    input_left = size;
    fake_ram_reset();
    fake_alloc_live = fake_alloc_fail_in = 0;
    memset(entry, 0, sizeof(entry));
    grant_pv_ops = &pv;
    for (unsigned d = 0; d < DOMAINS; d++) {
        domain[d] = fake_domain_new(d, 1, d == 0);
        CHECK(!grant_domain_init(domain[d], 4, 2));
        CHECK(!grant_table_frame(domain[d], 0, &frame));
        for (unsigned i = 0; i < PAGES; i++)
            page[d][i] = fake_domain_page(domain[d]);
    }
    while (input_left) {
        unsigned choice = take8();
        actions[choice / DOMAINS % ARRAY_SIZE(actions)](choice % DOMAINS);
    }
    /* The mappers die first, then nothing refers to anybody. */
    for (unsigned i = 0; i <= ENTRIES; i++)
        drop(i);
    for (unsigned d = 0; d < DOMAINS; d++)
        grant_domain_relinquish(domain[d]);
    for (unsigned d = 0; d < DOMAINS; d++) {
        for (unsigned i = 0; i < PAGES; i++) {
            CHECK(page[d][i]->refs == (PAGE_REF_ALLOCATED | 1));
            CHECK(!(page[d][i]->type & PAGE_TYPE_COUNT));
            fake_domain_page_drop(page[d][i]);
        }
        grant_domain_fini(domain[d]);
        fake_domain_free(domain[d]);
    }
    CHECK(fake_alloc_live == 0);
    return 0;
}
