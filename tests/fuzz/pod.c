/* SOURCES: hvm/pod.c hvm/p2m.c hvm/physmap.c domain/pages.c mm/buddy.c mm/page.c mm/page_type.c */
/* SOURCES: lib/bitmap.c lib/spinlock.c lib/string.c fake/cpu.c fake/alloc.c fake/domain.c fake/guest.c */
/*
 * Memory populated on demand against a plain model: what each guest frame number has, whatever is
 * made, touched, held, given back and aimed at, with little memory. What the guest wrote stays,
 * what it did not write is zero, the books are exact, and at the end every page is back.
 */
#include "fuzz.h"

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "grant/grant.h"
#include "hvm/hvm.h"
#include "hvm/npt.h"
#include "hypercall/permission.h"
#include "mm/internal.h"

#include <xen/memory.h>

enum { FRAMES = 2048, HELD = 8, OPS = 300 };

uint64_t ram_total;
static struct domain *d;
static struct vcpu *v;
static bool killed;
static unsigned steps; /* of a call, until somebody waits for the vCPU; 0: nobody does */
#define AGAIN 0x12345678L
static struct {
    bool there; /* populated, or will be */
    uint64_t value;
} model[FRAMES];
static struct page *held[HELD];

struct cpu *this_cpu(void)
{
    return &fake_cpu[0];
}

void domain_kill(struct domain *which, const char *why, ...)
{
    CHECK(which == d);
    killed = true;
}

bool vcpu_wanted(void)
{
    preempt_point();
    return steps && --steps == 0;
}

long hypercall_again(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t e)
{
    CHECK(nr == __HYPERVISOR_memory_op && a == XENMEM_set_pod_target);
    return AGAIN;
}

struct page *domain_get_page(struct domain *of, gfn_t g)
{
    bool writable;
    return p2m_get_page(of, g, &writable);
}

/* What physmap.c has besides. */
int grant_table_frame(struct domain *of, unsigned i, mfn_t *frame)
{
    abort();
}
void guest_time_rewrite(struct domain *of)
{
    abort();
}
int permission_check(const struct domain *caller, unsigned nr, unsigned op,
                     const struct domain *target)
{
    return 0;
}

static bool any_there(unsigned g, unsigned n)
{
    bool any = false;
    for (unsigned i = 0; i < n; i++)
        any |= model[g + i].there;
    return any;
}

static void make(unsigned g, unsigned order)
{
    unsigned n = 1u << order;
    g &= ~(n - 1);
    int rc = pod_add(d, gfn(g), order);
    CHECK(rc == 0 || rc == -XEN_ENOMEM || (rc == -XEN_EINVAL && any_there(g, n)));
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        CHECK(!model[g + i].there);
        model[g + i].there = true;
        model[g + i].value = 0;
    }
}

/* A page that is there at once, where none was. */
static void put(unsigned g)
{
    uint64_t claimed;
    if (p2m_kind(d, gfn(g)) == P2M_RAM)
        return;
    struct page *page = page_alloc_for(d, 0, ALLOC_ZERO, 0, &claimed);
    if (!page)
        return;
    if (page_assign(d, page, 0)) {
        page_free(page, 0);
        return;
    }
    if (p2m_add(d, gfn(g), page, 0)) {
        CHECK(page_drop_allocation(page));
        page_put(page);
        return;
    }
    model[g].there = true;
    model[g].value = 0;
}

static struct page *touch(unsigned g, uint64_t value)
{
    bool writable;
    struct page *page = p2m_get_page(d, gfn(g), &writable);
    if (!page) {
        CHECK(!model[g].there || p2m_kind(d, gfn(g)) == P2M_POD);
        return NULL;
    }
    CHECK(model[g].there && writable && page->owner == d);
    uint64_t *word = page_to_virt(page);
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        CHECK(word[i] == (i == 0 ? model[g].value : 0));
    word[0] = model[g].value = value;
    return page;
}

static void fault(unsigned g)
{
    killed = false;
    pod_fault(v, gfn(g));
    if (model[g].there && !killed)
        CHECK(p2m_kind(d, gfn(g)) == P2M_RAM);
    for (unsigned i = 0; killed && buddy_free_pages() > 4 && i < FRAMES; i++) {
        /* Nothing that is zero, and nobody's but its own, is left. */
        if (model[i].value || p2m_kind(d, gfn(i)) != P2M_RAM)
            continue;
        struct page *page = touch(i, 0);
        CHECK(page->refs != (PAGE_REF_ALLOCATED | 3));
        page_put(page);
    }
}

static void give_up(unsigned g)
{
    const struct pod *pod = &d->hvm->p2m.pod;
    uint64_t lacking = pod->entries - pod->count; /* pages that it would need in the end */
    bool used = p2m_kind(d, gfn(g)) == P2M_RAM && pod->entries > pod->count;
    bool gone = hvm_physmap_give_up(d, gfn(g));
    if (gone && used && buddy_free_pages() && d->tot_pages < d->max_pages)
        CHECK(pod->entries - pod->count == lacking - 1);
    if (gone)
        CHECK(model[g].there);
    else if (model[g].there) /* no memory for tables */
        CHECK(p2m_kind(d, gfn(g)) != P2M_NONE);
    if (gone)
        model[g].there = false;
}

static void aim(uint64_t pages)
{
    struct xen_pod_target t = {.domid = d->id, .target_pages = pages};
    uint64_t tot = d->tot_pages, count = d->hvm->p2m.pod.count;
    long rc;
    do {
        steps = pages % 64;
        rc = pod_target(XENMEM_set_pod_target, guest_ptr((uint64_t)&t));
    } while (rc == AGAIN);
    steps = 0;
    CHECK(rc == 0 || rc == -XEN_ENOMEM || rc == -XEN_E2BIG);
    if (rc)
        CHECK(d->tot_pages == tot && d->hvm->p2m.pod.count == count);
    else
        CHECK(t.tot_pages == d->tot_pages && t.pod_cache_pages == d->hvm->p2m.pod.count);
}

static void check(void)
{
    const struct pod *pod = &d->hvm->p2m.pod;
    uint64_t entries = 0, ram = 0, listed = 0;
    for (unsigned g = 0; g < FRAMES; g++) {
        enum p2m_kind kind = p2m_kind(d, gfn(g));
        CHECK((kind == P2M_NONE) == !model[g].there);
        CHECK(kind != P2M_POD || model[g].value == 0);
        entries += kind == P2M_POD;
        ram += kind == P2M_RAM;
    }
    for (uint32_t f = d->page_list; f; f = mfn_to_page(mfn(f))->next)
        listed++;
    CHECK(entries == pod->entries);
    CHECK(d->tot_pages == listed + pod->count);
    CHECK(listed >= ram && listed <= ram + HELD);
    pod_audit(d);
}

static void drop_held(unsigned i)
{
    if (held[i])
        page_put(held[i]);
    held[i] = NULL;
}

static void begin(void)
{
    static bool added;
    if (!added)
        buddy_add_range(mfn(1), FAKE_FRAMES - 1);
    added = true;
    cpu_features.phys_bits = 40;
    npt_format = (struct npt_format){.table = 7, .leaf = 0x67, .device = 0x67, .dirty = 0x40};
    d = fake_domain_new(1, 1, false);
    v = d->vcpu[0];
    fake_current(v);
    d->is_hvm = true;
    d->hvm = calloc(1, sizeof(*d->hvm));
    v->hvm = calloc(1, sizeof(*v->hvm));
    d->max_pages = take32() % FAKE_FRAMES;
    CHECK(p2m_init(d) == 0);
    memset(model, 0, sizeof(model));
}

static void end(void)
{
    for (unsigned i = 0; i < HELD; i++)
        drop_held(i);
    d->dying = true;
    while (p2m_relinquish(d))
        ;
    pod_relinquish(d);
    while (domain_relinquish_pages(d))
        ;
    CHECK(d->tot_pages == 0);
    p2m_fini(d);
    free(v->hvm);
    free(d->hvm);
    d->overhead_pages = 0;
    fake_domain_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    begin();
    const struct pod *pod = &d->hvm->p2m.pod;
    for (unsigned i = 0; i < OPS && input_left; i++) {
        uint8_t op = take8(), where = take8();
        unsigned g = where % 16 + where / 16 % 4 * 512, slot = where % HELD;
        bool covered = pod->count <= pod->entries;
        struct page *page;
        switch (op % 10) {
        case 0:
            make(g, 9);
            break;
        case 1:
            make(g, 0);
            break;
        case 2:
            put(g);
            break;
        case 3: /* several, as a guest does that clears its memory */
            for (unsigned n = op; n && g < FRAMES; n--, g++)
                if ((page = touch(g, model[g].value)))
                    page_put(page);
            break;
        case 4:
            if ((page = touch(g, op & 16 ? op : 0)))
                page_put(page);
            break;
        case 5:
            drop_held(slot);
            held[slot] = touch(g, op & 32 ? op : 0);
            break;
        case 6:
            drop_held(slot);
            break;
        case 7:
            for (unsigned n = op & 64 ? op : 1; n && g < FRAMES; n--, g++)
                give_up(g);
            break;
        case 8:
            aim(take32() % FAKE_FRAMES);
            break;
        default:
            if (op & 128)
                v->initialised = true;
            fault(g);
            break;
        }
        check();
        CHECK(!covered || op % 10 == 8 || pod->count <= pod->entries);
    }
    end();
    CHECK(buddy_free_pages() == FAKE_FRAMES - LOW_FRAMES);
    return 0;
}
