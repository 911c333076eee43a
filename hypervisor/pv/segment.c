/*
 * Descriptor tables of PV guests.
 *
 * A guest's GDT and LDT are frames of its own that have the type PAGE_SEGDESC: it may read them,
 * but only update_descriptor writes them, and no descriptor in them can do harm
 * (pv_descriptor_fix). The CPU reads them through a window in the part of the address space that
 * each domain has for itself (PERDOMAIN_VIRT, mm/layout.h): per vCPU 16 pages of GDT and 16 of LDT.
 * GDT pages 0 to 13 are the guest's frames, or a page of zeros so that a selector without a
 * descriptor gives #GP and not a fault on our addresses; page 14 (FIRST_RESERVED_GDT_PAGE) is the
 * one of the CPU that the vCPU runs on; page 15 lies beyond the limit.
 *
 * The window is written by its own vCPU, or while that is quiet. A CPU that ran the vCPU before may
 * remember old entries, so replacing frames flushes all CPUs of the domain; the old frames' next
 * use waits for a flush anyhow (mm/page_type.c).
 */
#include "console/console.h"
#include "hypercall/table.h"
#include "lib/string.h"
#include "pv/internal.h"

#define WINDOW_ENTRIES   32 /* per vCPU */
#define LDT_FIRST        16 /* its first LDT page in the window */
#define LDT_PAGES        16
#define VCPUS_PER_TABLE  (512 / WINDOW_ENTRIES)
#define WINDOW_GDT_PAGES FIRST_RESERVED_GDT_PAGE
#define SELECTOR_LDT     4 /* table indicator of a selector */

static mfn_t zero_frame __ro_after_init;

static uint64_t window_entry(mfn_t m, uint64_t flags)
{
    return mfn_to_maddr(m).a | PTE_P | PTE_A | flags | (cpu_features.nx ? PTE_NX : 0);
}

void pv_segment_init(void)
{
    void *zero = xpage_alloc();
    if (!zero)
        panic("no memory for the empty descriptor page");
    zero_frame = virt_to_mfn(zero);
}

/* Writable for the CPU alone, which sets accessed bits. */
static uint64_t frame_entry(mfn_t m)
{
    return window_entry(m, PTE_RW | PTE_D);
}

/* --- the window --- */

static uint64_t *perdomain_l2(const struct pv_domain *pd)
{
    return mfn_to_virt(pte_mfn(pd->perdomain_l3_virt[0]));
}

int pv_perdomain_init(struct domain *d)
{
    uint64_t *l3 = xpage_alloc(), *l2 = xpage_alloc();
    if (!l3 || !l2)
        goto no_memory;
    l3[0] = virt_to_maddr(l2).a | PTE_P | PTE_RW | PTE_A | PTE_D;
    d->pv->perdomain_l3_virt = l3;
    d->pv->perdomain_l3 = virt_to_mfn(l3);
    return 0;

no_memory:
    if (l3)
        xpage_free(l3);
    if (l2)
        xpage_free(l2);
    return -XEN_ENOMEM;
}

void pv_perdomain_fini(struct domain *d)
{
    struct pv_domain *pd = d->pv;
    if (!pd->perdomain_l3_virt)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(pd->perdomain_l1); i++)
        if (pd->perdomain_l1[i])
            xpage_free(pd->perdomain_l1[i]);
    xpage_free(perdomain_l2(pd));
    xpage_free(pd->perdomain_l3_virt);
    pd->perdomain_l3_virt = NULL;
}

int pv_perdomain_vcpu(struct vcpu *v)
{
    struct pv_domain *pd = v->domain->pv;
    unsigned table = v->id / VCPUS_PER_TABLE;
    if (!pd->perdomain_l1[table]) {
        uint64_t *l1 = xpage_alloc();
        if (!l1)
            return -XEN_ENOMEM;
        pd->perdomain_l1[table] = l1;
        perdomain_l2(pd)[table] = virt_to_maddr(l1).a | PTE_P | PTE_RW | PTE_A | PTE_D;
    }
    v->pv->gdt_ldt_l1 = pd->perdomain_l1[table] + v->id % VCPUS_PER_TABLE * WINDOW_ENTRIES;
    for (unsigned i = 0; i < WINDOW_ENTRIES; i++)
        if (i < WINDOW_GDT_PAGES || i >= LDT_FIRST)
            v->pv->gdt_ldt_l1[i] = window_entry(zero_frame, 0);
    for (unsigned i = 0; i < LDT_PAGES; i++)
        v->pv->gdt_frames[i] = v->pv->ldt_frames[i] = MFN_NONE;
    return 0;
}

static void window_changed(struct vcpu *v)
{
    tlb_flush_mask(&v->domain->dirty_cpus);
}

/* --- frames --- */

int pv_descriptor_frames_get(struct domain *d, const uint64_t *frames, unsigned n, mfn_t *out)
{
    for (unsigned i = 0; i < n; i++) {
        out[i] = mfn(frames[i]);
        if (!mfn_is_ram(out[i]) || page_get_and_type(mfn_to_page(out[i]), d, PAGE_SEGDESC)) {
            pv_descriptor_frames_put(out, i);
            return -XEN_EINVAL;
        }
    }
    return 0;
}

void pv_descriptor_frames_put(const mfn_t *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!mfn_equal(frames[i], MFN_NONE))
            page_put_and_type(mfn_to_page(frames[i]));
}

void pv_gdt_install(struct vcpu *v, const mfn_t *frames, unsigned entries)
{
    struct pv_vcpu *pv = v->pv;
    unsigned n = pv_descriptor_pages(entries), held = pv_descriptor_pages(pv->gdt_entries);
    mfn_t old[WINDOW_GDT_PAGES];
    if (!n && !held)
        return;
    for (unsigned i = 0; i < WINDOW_GDT_PAGES; i++) {
        old[i] = i < held ? pv->gdt_frames[i] : MFN_NONE;
        pv->gdt_frames[i] = i < n ? frames[i] : MFN_NONE;
        WRITE_ONCE(pv->gdt_ldt_l1[i], i < n ? frame_entry(frames[i]) : window_entry(zero_frame, 0));
    }
    pv->gdt_entries = entries;
    window_changed(v);
    pv_descriptor_frames_put(old, held);
}

static void load_ldt(const struct vcpu *v)
{
    uint64_t *gdt = this_cpu()->gdt;
    unsigned entries = v->pv->ldt_entries, slot = (SEL_LDT & (PAGE_SIZE - 1)) / 8;
    uint16_t sel = 0;
    if (entries) { /* LDT descriptor, type 2, present (APM vol. 2 section 4.8.3) */
        uint64_t base = PERDOMAIN_LDT(v->id), limit = entries * 8 - 1;
        gdt[slot] =
            (limit & 0xffff) | (base & 0xffffff) << 16 | 0x82UL << 40 | (base >> 24 & 0xff) << 56;
        gdt[slot + 1] = base >> 32;
        sel = SEL_LDT;
    }
    __asm__ volatile("lldt %0" ::"r"(sel) : "memory");
}

bool pv_ldt_map(struct vcpu *v, unsigned page)
{
    struct pv_vcpu *pv = v->pv;
    uint64_t va = pv->ldt_base + page * PAGE_SIZE;
    if (page >= pv_descriptor_pages(pv->ldt_entries) || !mfn_equal(pv->ldt_frames[page], MFN_NONE))
        return false;
    uint64_t frame = pte_mfn(pv_walk(pv->guest_l4, va, NULL)).n;
    mfn_t held;
    if (!frame || pv_descriptor_frames_get(v->domain, &frame, 1, &held))
        return false;
    pv->ldt_frames[page] = held;
    WRITE_ONCE(pv->gdt_ldt_l1[LDT_FIRST + page], frame_entry(held));
    window_changed(v);
    return true;
}

bool pv_ldt_map_selector(struct vcpu *v, uint16_t error_code)
{
    return (error_code & SELECTOR_LDT) && pv_ldt_map(v, error_code / 8 / 512);
}

static void ldt_drop(struct vcpu *v)
{
    struct pv_vcpu *pv = v->pv;
    mfn_t old[LDT_PAGES];
    bool any = false;
    for (unsigned i = 0; i < LDT_PAGES; i++) {
        old[i] = i < pv_descriptor_pages(pv->ldt_entries) ? pv->ldt_frames[i] : MFN_NONE;
        any |= !mfn_equal(old[i], MFN_NONE);
        pv->ldt_frames[i] = MFN_NONE;
        WRITE_ONCE(pv->gdt_ldt_l1[LDT_FIRST + i], window_entry(zero_frame, 0));
    }
    pv->ldt_entries = 0;
    if (any)
        window_changed(v);
    pv_descriptor_frames_put(old, LDT_PAGES);
}

int pv_ldt_check(uint64_t base, uint64_t entries)
{
    if (entries > 8192)
        return -XEN_EINVAL;
    if (entries && (base % PAGE_SIZE || !is_guest_addr(base) || !is_guest_addr(base + 0xffff)))
        return -XEN_EINVAL;
    return 0;
}

int pv_set_gdt(struct vcpu *v, const uint64_t *frames, unsigned entries)
{
    mfn_t held[16];
    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    int rc = pv_descriptor_frames_get(v->domain, frames, pv_descriptor_pages(entries), held);
    if (!rc)
        pv_gdt_install(v, held, entries);
    return rc;
}

void pv_destroy_gdt(struct vcpu *v)
{
    pv_gdt_install(v, NULL, 0);
}

int pv_set_ldt(struct vcpu *v, uint64_t base, unsigned entries)
{
    int rc = pv_ldt_check(base, entries);
    if (rc)
        return rc;
    if (v->pv->ldt_entries)
        ldt_drop(v);
    v->pv->ldt_base = entries ? base : 0;
    v->pv->ldt_entries = entries;
    for (unsigned i = 0; i < pv_descriptor_pages(entries); i++)
        pv_ldt_map(v, i); /* what cannot be mapped yet may be when it is used */
    if (v == current_vcpu())
        load_ldt(v);
    return 0;
}

/* --- switching --- */

void pv_segments_window(struct vcpu *v)
{
    uint64_t entry = window_entry(this_cpu()->gdt_mfn, PTE_RW | PTE_D);
    uint64_t *slot = &v->pv->gdt_ldt_l1[FIRST_RESERVED_GDT_PAGE];
    if (*slot == entry)
        return;
    WRITE_ONCE(*slot, entry);
    invlpg(PERDOMAIN_GDT(v->id) + FIRST_RESERVED_GDT_BYTE);
}

void pv_segments_load(struct vcpu *v)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed gdtr = {FIRST_RESERVED_GDT_BYTE + PAGE_SIZE - 1, PERDOMAIN_GDT(v->id)};
    __asm__ volatile("lgdt %0" ::"m"(gdtr) : "memory");
    load_ldt(v);
    /* An exception leaves SS null here, and on AMD's CPUs SYSRET gives the guest the selector of
     * its stack segment but not the attributes (APM vol. 3, SYSRET). */
    __asm__ volatile("mov %0, %%ss" ::"r"(HV_DS));
}

/* --- descriptors (APM vol. 2 section 4.7) --- */

#define DESC_S       (1UL << 44)
#define DESC_DPL     (3UL << 45)
#define DESC_PRESENT (1UL << 47)

/*
 * Absent ones do nothing. Present ones must be code or data, which cannot reach beyond ring 3 once
 * their privilege level is 3; gates, TSS and LDT descriptors are refused.
 */
bool pv_descriptor_fix(uint64_t *descriptor)
{
    if (!(*descriptor & DESC_PRESENT))
        return true;
    if (!(*descriptor & DESC_S))
        return false;
    *descriptor |= DESC_DPL;
    return true;
}

int pv_segdesc_validate(struct page *page)
{
    uint64_t *table = page_to_virt(page);
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++) {
        uint64_t copy = table[i];
        if (!pv_descriptor_fix(&copy))
            return -XEN_EINVAL;
    }
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        (void)pv_descriptor_fix(&table[i]); /* nobody can write the page between the passes */
    return 0;
}

/* --- hypercalls --- */

long hc_set_gdt(uint64_t frame_list, uint64_t entries)
{
    uint64_t frames[WINDOW_GDT_PAGES];
    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    int rc = copy_from_guest(frames, guest_ptr(frame_list),
                             pv_descriptor_pages(entries) * sizeof(frames[0]));
    return rc ? rc : pv_set_gdt(current_vcpu(), frames, entries);
}

/* @ma: machine address of a descriptor in a descriptor page, or in any page the guest may write. */
long hc_update_descriptor(uint64_t ma, uint64_t descriptor)
{
    mfn_t m = maddr_to_mfn(maddr(ma));
    if (ma % 8 || !mfn_is_ram(m) || !pv_descriptor_fix(&descriptor))
        return -XEN_EINVAL;
    struct page *page = mfn_to_page(m);
    enum page_type type = page_type(page) == PAGE_SEGDESC ? PAGE_SEGDESC : PAGE_WRITABLE;
    int rc = page_get_and_type(page, current_domain(), type);
    if (rc)
        return rc;
    uint64_t *slot = maddr_to_virt(maddr(ma));
    WRITE_ONCE(*slot, descriptor);
    page_put_and_type(page);
    return 0;
}
