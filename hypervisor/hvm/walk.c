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

struct walk {
    struct vcpu *v;
    unsigned access;
    unsigned levels; /* 0 = no paging */
    bool wide;       /* entries of eight bytes */
    bool large;      /* entries of upper levels may be leaves */
    bool nx, wp, smep, smap;
    uint64_t reserved; /* bits that no entry may have */
    uint64_t rights;   /* G_RW, G_U, and G_NX for "may be run": in all levels so far */
    uint32_t why;      /* of a fault: PF_PRESENT, PF_RSVD */
};

static void set_mode(struct walk *w)
{
    uint64_t cr0 = hvm_ops->get_reg(w->v, HVM_CR0), cr4 = hvm_ops->get_reg(w->v, HVM_CR4);
    uint64_t efer = hvm_ops->get_reg(w->v, HVM_EFER);
    if (!(cr0 & CR0_PG))
        return;
    w->levels = efer & EFER_LMA ? cr4 & CR4_LA57 ? 5 : 4 : cr4 & CR4_PAE ? 3 : 2;
    w->wide = w->levels > 2;
    w->large = w->wide || (cr4 & CR4_PSE);
    w->nx = w->wide && (efer & EFER_NXE);
    w->wp = cr0 & CR0_WP;
    w->smep = cr4 & CR4_SMEP;
    w->smap = (cr4 & CR4_SMAP) && !(w->v->stack->regs.rflags & RFLAGS_AC);
    if (!w->wide)
        return;
    w->reserved = (G_ADDR & ~(PHYS_LIMIT - 1)) | (w->nx ? 0 : G_NX);
    if (w->levels == 3)
        w->reserved |= G_PAE_RESERVED;
}

/* False: it has changed meanwhile. */
static bool entry_mark(const struct walk *w, void *p, uint64_t old, uint64_t bits)
{
    uint32_t old32 = old;
    if ((old & bits) == bits)
        return true;
    if (w->wide)
        return __atomic_compare_exchange_n((uint64_t *)p, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n((uint32_t *)p, &old32, old32 | (uint32_t)bits, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static __always_inline uint64_t reserved_bits(const struct walk *w, bool leaf, unsigned level)
{
    if (!w->wide)
        return leaf && level == 2 ? G_PSE_RESERVED : 0;
    if (level == 4)
        return w->reserved | G_PS;
    if (level == 3)
        return w->reserved | (w->levels == 3 ? G_NX : leaf ? 0x3fffe000 : 0);
    return w->reserved | (leaf && level == 2 ? 0x1fe000 : 0);
}

static inline bool allowed(const struct walk *w)
{
    bool user_page = w->rights & G_U, user = w->access & HVM_USER;
    if (user && !user_page)
        return false;
    if ((w->access & HVM_WRITE) && !(w->rights & G_RW) && (user || w->wp))
        return false;
    if (w->access & HVM_FETCH)
        return !(w->nx && !(w->rights & G_NX)) && !(w->smep && !user && user_page);
    return !(w->smap && !user && user_page);
}

static uint32_t error_of(const struct walk *w)
{
    uint32_t e = w->why;
    if (w->access & HVM_WRITE)
        e |= PF_WRITE;
    if (w->access & HVM_USER)
        e |= PF_USER;
    if ((w->access & HVM_FETCH) && (w->nx || w->smep))
        e |= PF_FETCH;
    return e;
}

enum step { STEP_DOWN, STEP_LEAF, STEP_AGAIN, STEP_FAULT };

/* One entry at @gpa, which becomes *e. A PDPT entry of PAE has no rights. */
static __always_inline enum step step(struct walk *w, uint64_t gpa, unsigned level, uint64_t *e)
{
    void *p = p2m_borrow(w->v->domain, gpa, true);
    w->why = 0;
    if (unlikely(!p))
        return STEP_FAULT; /* tables in no memory: as if nothing were there */
    *e = w->wide ? READ_ONCE(*(const uint64_t *)p) : READ_ONCE(*(const uint32_t *)p);
    if (unlikely(!(*e & G_P)))
        return STEP_FAULT;
    bool pdpt = w->levels == 3 && level == 3;
    bool leaf = level == 1 || ((*e & G_PS) && w->large && !pdpt);
    if (unlikely(*e & reserved_bits(w, leaf, level))) {
        w->why = PF_PRESENT | PF_RSVD;
        return STEP_FAULT;
    }
    if (likely(!pdpt))
        w->rights &= *e ^ G_NX;
    w->why = PF_PRESENT;
    if (leaf && unlikely(!allowed(w)))
        return STEP_FAULT;
    uint64_t marks = pdpt ? 0 : leaf && (w->access & HVM_WRITE) ? G_A | G_D : G_A;
    if (unlikely(!entry_mark(w, p, *e, marks)))
        return STEP_AGAIN;
    return leaf ? STEP_LEAF : STEP_DOWN;
}

static __always_inline enum step walk(struct walk *w, unsigned levels, uint64_t addr, uint64_t *gpa)
{
    uint64_t cr3 = hvm_ops->get_reg(w->v, HVM_CR3), e = 0;
    const bool wide = levels > 2;
    uint64_t table = levels == 3 ? cr3 & G_PAE_CR3 : cr3 & G_ADDR & (wide ? ~0UL : 0xffffffffUL);
    const unsigned bits = wide ? 9 : 10, size = wide ? 8 : 4;
    enum step s = STEP_DOWN;
    w->levels = levels;
    w->wide = wide;
    w->rights = G_RW | G_U | G_NX;
#pragma GCC unroll 4
    for (unsigned level = levels; level && s == STEP_DOWN; level--, table = e & G_ADDR) {
        unsigned shift = PAGE_SHIFT + bits * (level - 1);
        uint64_t i = addr >> shift & ((1UL << bits) - 1);
        s = step(w, table + i * size, level, &e);
        if (s != STEP_LEAF)
            continue;
        uint64_t in_page = (1UL << shift) - 1, base = e & G_ADDR & ~in_page;
        if (!wide && level == 2)
            base |= (e >> 13 & 0xff) << 32; /* PSE-36 */
        *gpa = base | (addr & in_page);
    }
    return s;
}

bool hvm_walk(struct vcpu *v, uint64_t addr, unsigned access, uint64_t *gpa, uint32_t *error)
{
    struct walk w = {.v = v, .access = access};
    enum step s;
    set_mode(&w);
    *error = 0;
    if (w.levels < 4)
        addr = (uint32_t)addr;
    if (w.levels == 0) {
        *gpa = addr;
        return true;
    }
    if (w.levels == 5)
        return false; /* CPUID does not offer it */
    if (w.levels == 4 && (uint64_t)((int64_t)(addr << 16) >> 16) != addr)
        return false; /* not canonical: nowhere */
    for (;;) {
        s = w.levels == 4   ? walk(&w, 4, addr, gpa)
            : w.levels == 3 ? walk(&w, 3, addr, gpa)
                            : walk(&w, 2, addr, gpa);
        if (likely(s != STEP_AGAIN))
            break;
        spin_poll();
    }
    if (s == STEP_FAULT)
        *error = error_of(&w);
    return s == STEP_LEAF;
}
