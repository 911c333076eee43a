/*
 * The guest's own page tables, walked as its CPU would (APM vol. 2 chapter 5): none, 32-bit of two
 * levels with 4 MiB pages, PAE of three, long mode of four. Access rights are checked level by
 * level (WP, NX, SMEP, SMAP) and A and D are set, so that an access of ours leaves the traces that
 * the guest's own would have left.
 *
 * The tables are hostile and may change while we look: each entry is read once, and changed by
 * compare-exchange.
 */
#include "hvm/hvm.h"

#define G_P            (1UL << 0)
#define G_RW           (1UL << 1)
#define G_U            (1UL << 2)
#define G_A            (1UL << 5)
#define G_D            (1UL << 6)
#define G_PS           (1UL << 7)
#define G_NX           (1UL << 63)
#define G_ADDR         0x000ffffffffff000UL
#define G_PAE_CR3      0xffffffe0UL
#define G_PAE_RESERVED (0x7ffUL << 52)
#define G_PSE_RESERVED (1UL << 21)
#define CR4_LA57       (1UL << 12)

#define PHYS_LIMIT     (1UL << cpu_features.phys_bits)

struct mode {
    unsigned levels; /* 0 = no paging */
    bool wide;       /* entries of eight bytes */
    bool nx, wp, smep, smap;
};

struct walk {
    struct vcpu *v;
    struct mode mode;
    unsigned access;
    uint64_t rights; /* G_RW, G_U in all levels; G_NX in any */
};

static struct mode mode_of(const struct vcpu *v)
{
    uint64_t cr0 = hvm_ops->get_reg(v, HVM_CR0), cr4 = hvm_ops->get_reg(v, HVM_CR4);
    uint64_t efer = hvm_ops->get_reg(v, HVM_EFER);
    struct mode m = {0};
    if (!(cr0 & CR0_PG))
        return m;
    m.levels = efer & EFER_LMA ? 4 : cr4 & CR4_PAE ? 3 : 2;
    m.wide = m.levels > 2;
    m.nx = m.wide && (efer & EFER_NXE);
    m.wp = cr0 & CR0_WP;
    m.smep = cr4 & CR4_SMEP;
    m.smap = (cr4 & CR4_SMAP) && !(v->stack->regs.rflags & RFLAGS_AC);
    return m;
}

/* A place in guest-physical memory, held; NULL. */
static void *entry_map(struct domain *d, uint64_t gpa, struct page **page)
{
    bool writable;
    *page = p2m_get_page(d, gfn(gpa >> PAGE_SHIFT), &writable);
    if (*page && !writable) {
        page_put(*page);
        *page = NULL;
    }
    return *page ? (uint8_t *)page_to_virt(*page) + gpa % PAGE_SIZE : NULL;
}

static uint64_t entry_read(const struct mode *m, const void *p)
{
    return m->wide ? READ_ONCE(*(const uint64_t *)p) : READ_ONCE(*(const uint32_t *)p);
}

/* False: it has changed meanwhile. */
static bool entry_mark(const struct mode *m, void *p, uint64_t old, uint64_t bits)
{
    uint32_t old32 = old;
    if ((old & bits) == bits)
        return true;
    if (m->wide)
        return __atomic_compare_exchange_n((uint64_t *)p, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n((uint32_t *)p, &old32, old32 | (uint32_t)bits, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static uint64_t reserved_bits(const struct mode *m, uint64_t e, bool leaf, unsigned level)
{
    if (!m->wide)
        return leaf && level == 2 ? e & G_PSE_RESERVED : 0;
    uint64_t bad = G_ADDR & ~(PHYS_LIMIT - 1);
    if (!m->nx || (m->levels == 3 && level == 3))
        bad |= G_NX;
    if (m->levels == 3)
        bad |= G_PAE_RESERVED;
    if (level == 4)
        bad |= G_PS;
    if (leaf && level == 2)
        bad |= 0x1fe000;
    if (leaf && level == 3)
        bad |= 0x3fffe000;
    return e & bad;
}

static bool allowed(const struct walk *w)
{
    const struct mode *m = &w->mode;
    bool user_page = w->rights & G_U, user = w->access & HVM_USER;
    if (user && !user_page)
        return false;
    if ((w->access & HVM_WRITE) && !(w->rights & G_RW) && (user || m->wp))
        return false;
    if (w->access & HVM_FETCH)
        return !(m->nx && (w->rights & G_NX)) && !(m->smep && !user && user_page);
    return !(m->smap && !user && user_page);
}

static uint32_t error_of(const struct walk *w, uint32_t why)
{
    uint32_t e = why;
    if (w->access & HVM_WRITE)
        e |= PF_WRITE;
    if (w->access & HVM_USER)
        e |= PF_USER;
    if ((w->access & HVM_FETCH) && (w->mode.nx || w->mode.smep))
        e |= PF_FETCH;
    return e;
}

enum step { STEP_DOWN, STEP_LEAF, STEP_AGAIN, STEP_FAULT };

/* One entry at @gpa: *e is it; @top: a PDPT entry of PAE, which has no rights. */
static enum step step(struct walk *w, uint64_t gpa, unsigned level, uint64_t *e, uint32_t *error)
{
    const struct mode *m = &w->mode;
    struct page *page;
    void *p = entry_map(w->v->domain, gpa, &page);
    enum step r = STEP_FAULT;
    *error = error_of(w, 0);
    if (!p)
        return STEP_FAULT; /* tables in no memory: as if nothing were there */
    *e = entry_read(m, p);
    bool pdpt = m->levels == 3 && level == 3;
    bool large = level > 1 && !pdpt && (*e & G_PS) &&
                 (m->wide || (hvm_ops->get_reg(w->v, HVM_CR4) & CR4_PSE));
    bool leaf = level == 1 || large;
    if (!(*e & G_P))
        goto out;
    if (reserved_bits(m, *e, leaf, level)) {
        *error = error_of(w, PF_PRESENT | PF_RSVD);
        goto out;
    }
    if (!pdpt)
        w->rights = (w->rights & *e & (G_RW | G_U)) | ((w->rights | *e) & G_NX);
    *error = error_of(w, PF_PRESENT);
    if (leaf && !allowed(w))
        goto out;
    uint64_t marks = pdpt ? 0 : leaf && (w->access & HVM_WRITE) ? G_A | G_D : G_A;
    r = !entry_mark(m, p, *e, marks) ? STEP_AGAIN : leaf ? STEP_LEAF : STEP_DOWN;
out:
    page_put(page);
    return r;
}

static enum step walk(struct walk *w, uint64_t addr, uint64_t *gpa, uint32_t *error)
{
    const struct mode *m = &w->mode;
    uint64_t cr3 = hvm_ops->get_reg(w->v, HVM_CR3), e;
    uint64_t table =
        m->levels == 3 ? cr3 & G_PAE_CR3 : cr3 & G_ADDR & (m->wide ? ~0UL : 0xffffffffUL);
    unsigned bits = m->wide ? 9 : 10, size = m->wide ? 8 : 4;
    w->rights = G_RW | G_U;
    for (unsigned level = m->levels;; level--) {
        unsigned shift = PAGE_SHIFT + bits * (level - 1);
        uint64_t i = addr >> shift & ((1UL << bits) - 1);
        enum step s = step(w, table + i * size, level, &e, error);
        if (s == STEP_DOWN) {
            table = e & G_ADDR;
            continue;
        }
        if (s == STEP_LEAF) {
            uint64_t in_page = (1UL << shift) - 1, base = e & G_ADDR & ~in_page;
            if (!m->wide && level == 2)
                base |= (e >> 13 & 0xff) << 32; /* PSE-36 */
            *gpa = base | (addr & in_page);
        }
        return s;
    }
}

bool hvm_walk(struct vcpu *v, uint64_t addr, unsigned access, uint64_t *gpa, uint32_t *error)
{
    struct walk w = {.v = v, .mode = mode_of(v), .access = access};
    *error = 0;
    if (w.mode.levels != 4)
        addr = (uint32_t)addr;
    if (w.mode.levels == 0) {
        *gpa = addr;
        return true;
    }
    if (w.mode.levels == 4 && (hvm_ops->get_reg(v, HVM_CR4) & CR4_LA57))
        return false; /* CPUID does not offer it */
    if (w.mode.levels == 4 && (uint64_t)((int64_t)(addr << 16) >> 16) != addr)
        return false; /* not canonical: nowhere */
    for (;;) {
        enum step s = walk(&w, addr, gpa, error);
        if (s != STEP_AGAIN)
            return s == STEP_LEAF;
        spin_poll();
    }
}
