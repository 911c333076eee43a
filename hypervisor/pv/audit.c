/*
 * Recounts what a domain's page tables, pins and vCPUs hold of its own pages and compares with the
 * counts in the struct pages. Other holders (grants, domain 0's mappings, calls under way) are not
 * known here, so more references than counted are reported as a number only; fewer references, or
 * type uses that do not fit, are errors of ours.
 */
#include "console/console.h"
#include "event/event.h"
#include "grant/grant.h"
#include "lib/string.h"
#include "pv/pagetable.h"

#define LINES_MAX 10

struct tally {
    uint32_t refs, uses;
};

struct audit {
    struct domain *d;
    struct tally *tally; /* one per frame of the machine */
    unsigned errors;
    uint64_t pages, held_elsewhere;
};

static void tally_use(struct audit *a, mfn_t m, bool typed)
{
    if (!mfn_is_ram(m))
        return;
    a->tally[m.n].refs++;
    a->tally[m.n].uses += typed;
}

static void tally_table(struct audit *a, struct page *page, enum page_type level)
{
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        uint64_t e = READ_ONCE(*pt_entry(page, i));
        if (!(e & PTE_P) || (level == PAGE_L4 && i >= HV_SLOT_FIRST && i <= HV_SLOT_LAST))
            continue;
        tally_use(a, pte_mfn(e), level > PAGE_L1 || (e & PTE_RW));
    }
}

static void tally_page(struct audit *a, struct page *page)
{
    uint64_t t = READ_ONCE(page->type);
    enum page_type type = page_type(page);
    a->pages++;
    if (READ_ONCE(page->refs) & PAGE_REF_ALLOCATED)
        tally_use(a, page_to_mfn(page), false);
    if (t & PAGE_TYPE_PINNED)
        tally_use(a, page_to_mfn(page), true);
    if ((t & PAGE_TYPE_VALIDATED) && type >= PAGE_L1 && type <= PAGE_L4)
        tally_table(a, page, type);
}

static void tally_vcpu(struct audit *a, const struct vcpu *v)
{
    const struct pv_vcpu *pv = v->pv;
    if (!pv)
        return;
    tally_use(a, pv->guest_l4, true);
    tally_use(a, pv->user_l4, true);
    tally_use(a, v->info_frame, true);
}

static void compare_page(struct audit *a, struct page *page)
{
    const struct tally *t = &a->tally[page_to_mfn(page).n];
    uint32_t refs = READ_ONCE(page->refs) & PAGE_REF_COUNT;
    uint32_t uses = READ_ONCE(page->type) & PAGE_TYPE_COUNT;
    if (refs > t->refs)
        a->held_elsewhere++;
    if (refs >= t->refs && uses >= t->uses && refs - t->refs >= uses - t->uses)
        return;
    if (a->errors++ < LINES_MAX)
        log_error("d%u frame 0x%lx type %d: %u references, %u counted; %u uses, %u counted",
                  a->d->id, page_to_mfn(page).n, page_type(page), refs, t->refs, uses, t->uses);
}

static void each_page(struct audit *a, void (*fn)(struct audit *, struct page *))
{
    spin_lock(&a->d->page_lock);
    const uint32_t heads[] = {a->d->page_list, a->d->page_list_done};
    for (unsigned h = 0; h < ARRAY_SIZE(heads); h++)
        for (uint32_t frame = heads[h]; frame;) {
            struct page *page = mfn_to_page(mfn(frame));
            fn(a, page);
            frame = page->next;
        }
    spin_unlock(&a->d->page_lock);
}

static void audit_domain(struct domain *d)
{
    struct audit a = {.d = d};
    unsigned order = page_order(max_mfn * sizeof(struct tally));
    struct page *memory = page_alloc(order, 0);
    if (!memory) {
        log_error("d%u: no memory to audit it", d->id);
        return;
    }
    a.tally = page_to_virt(memory);
    memset(a.tally, 0, max_mfn * sizeof(struct tally));

    each_page(&a, tally_page);
    for (unsigned i = 0; i < d->max_vcpus; i++)
        if (d->vcpu[i])
            tally_vcpu(&a, d->vcpu[i]);
    each_page(&a, compare_page);
    log_info("d%u: %lu pages, %lu with references that are not its own, %u errors", d->id, a.pages,
             a.held_elsewhere, a.errors);
    if (d->is_hvm)
        hvm_ops_table->audit(d);
    page_free(memory, order);
}

static void audit_key(char key __unused)
{
    log_info("memory: %lu of %lu pages free, %lu claimed", buddy_free_pages(), buddy_total_pages(),
             buddy_outstanding_claims());
    struct domain *d;
    for_each_domain(d)
        audit_domain(d);
    grant_audit();
    event_audit();
}

void pv_audit_init(void)
{
    key_register('M', "memory; audit of page references (exact for paused domains), grants, ports",
                 audit_key);
}
