/*
 * Writable page tables: a guest's kernel writes to an L1 table that is mapped read-only, as if it
 * were allowed, and we carry the write out by the rules of pv/pagetable.c. Upper levels are for
 * hypercalls only ("Page-directory entries cannot be written", VMASST in xen/xen.h). Only the
 * instruction at fault is executed, and only its access to that one page may write.
 */
#include "emulate/emulate.h"
#include "pv/internal.h"
#include "pv/pagetable.h"

struct write_fault {
    uint64_t page_va;   /* of the page at fault */
    struct page *table; /* its frame, an L1 table in use: reference and type held */
};

static enum emulate_result fetch(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                 unsigned *got)
{
    unsigned in_page = min((uint64_t)n, PAGE_SIZE - addr % PAGE_SIZE);
    if (copy_from_guest(buf, guest_ptr(addr), in_page))
        return EMULATE_UNHANDLED;
    *got = in_page;
    if (in_page < n &&
        !copy_from_guest((char *)buf + in_page, guest_ptr(addr + in_page), n - in_page))
        *got = n;
    return EMULATE_OK;
}

static enum emulate_result read_memory(struct emulate_ctx *ctx, uint64_t addr, void *buf,
                                       unsigned n)
{
    return copy_from_guest(buf, guest_ptr(addr), n) ? EMULATE_UNHANDLED : EMULATE_OK;
}

/* The entry that [addr, addr + n) lies in; false: not in the page at fault or not in one entry. */
static bool entry_of(const struct write_fault *f, uint64_t addr, unsigned n, unsigned *index,
                     unsigned *shift)
{
    unsigned in_entry = addr % sizeof(uint64_t);
    if ((addr & PAGE_MASK) != f->page_va || n > sizeof(uint64_t) - in_entry)
        return false;
    *index = addr % PAGE_SIZE / sizeof(uint64_t);
    *shift = in_entry * 8;
    return true;
}

static uint64_t bytes_mask(unsigned n)
{
    return n >= sizeof(uint64_t) ? ~0UL : (1UL << (8 * n)) - 1;
}

static uint64_t merge(uint64_t old, uint64_t value, unsigned n, unsigned shift)
{
    uint64_t mask = bytes_mask(n) << shift;
    return (old & ~mask) | (value << shift & mask);
}

static enum emulate_result write_memory(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                        unsigned n)
{
    struct write_fault *f = ctx->data;
    unsigned index, shift;
    uint64_t value = 0;
    if (!entry_of(f, addr, n, &index, &shift))
        return EMULATE_UNHANDLED;
    __builtin_memcpy(&value, buf, n);

    int rc;
    do {
        uint64_t old = READ_ONCE(*pt_entry(f->table, index));
        bool whole = n == sizeof(uint64_t);
        rc = pt_write(f->table, index, merge(old, value, n, shift), f->table->owner, false,
                      whole ? NULL : &old);
    } while (rc == -XEN_EAGAIN);
    return rc ? EMULATE_UNHANDLED : EMULATE_OK;
}

static enum emulate_result cmpxchg_memory(struct emulate_ctx *ctx, uint64_t addr, void *expected,
                                          const void *desired, unsigned n)
{
    struct write_fault *f = ctx->data;
    unsigned index, shift;
    uint64_t want = 0, value = 0;
    if (!entry_of(f, addr, n, &index, &shift))
        return EMULATE_UNHANDLED;
    __builtin_memcpy(&want, expected, n);
    __builtin_memcpy(&value, desired, n);

    for (;;) {
        uint64_t old = READ_ONCE(*pt_entry(f->table, index));
        uint64_t seen = old >> shift & bytes_mask(n);
        if (seen != want) {
            __builtin_memcpy(expected, &seen, n);
            return EMULATE_OK;
        }
        int rc =
            pt_write(f->table, index, merge(old, value, n, shift), f->table->owner, false, &old);
        if (!rc)
            return EMULATE_OK;
        if (rc != -XEN_EAGAIN)
            return EMULATE_UNHANDLED;
    }
}

static enum emulate_result seg_base(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t *base)
{
    *base = seg == SEG_FS ? rdmsr(MSR_FS_BASE) : seg == SEG_GS ? rdmsr(MSR_GS_BASE) : 0;
    return EMULATE_OK;
}

static const struct emulate_ops ops = {
    .fetch = fetch,
    .read = read_memory,
    .write = write_memory,
    .cmpxchg = cmpxchg_memory,
    .seg_base = seg_base,
};

/*
 * The frame that @va maps read-only, if it is one of the domain's L1 tables in use. That is all
 * that matters, should the tables on the way change meanwhile (pv/pagetable.c, find_l1()).
 */
static struct page *table_mapped_at(struct vcpu *v, uint64_t va)
{
    uint64_t e = pv_walk(v->pv->guest_l4, va, NULL);
    if ((e & (PTE_P | PTE_RW)) != PTE_P || !mfn_is_ram(pte_mfn(e)))
        return NULL;

    struct page *page = mfn_to_page(pte_mfn(e));
    if (!page_get(page, v->domain))
        return NULL;
    if (!page_get_type_fast(page, PAGE_L1))
        return page;
    page_put(page);
    return NULL;
}

/*
 * MOV and XCHG of a register with a whole entry, REX.W 89 and 87 without an index: Linux clears and
 * sets entries by these where it does not batch. The operand is where the fault is, unless it began
 * on the page before, in which case the fault is at the first byte of this one. False: for the
 * emulator.
 */
static bool write_entry(const struct write_fault *f, struct cpu_user_regs *regs, uint64_t va)
{
    uint64_t code, old;
    if (va % sizeof(uint64_t) || va == f->page_va ||
        copy_from_guest(&code, guest_ptr(regs->rip), sizeof(code)))
        return false;
    unsigned opcode = code >> 8 & 0xff, rm = code >> 16 & 7, mod = code >> 22 & 3;
    bool exchange = opcode == 0x87;
    if ((code & 0xf8) != 0x48 || !(exchange || opcode == 0x89) || mod == 3 || rm == 4 ||
        (mod == 0 && rm == 5))
        return false;

    uint64_t *reg = reg_slot(regs, (code >> 19 & 7) | (code & 4) << 1);
    unsigned index = va % PAGE_SIZE / sizeof(uint64_t);
    int rc;
    do {
        old = READ_ONCE(*pt_entry(f->table, index));
        rc = pt_write(f->table, index, *reg, f->table->owner, false, exchange ? &old : NULL);
    } while (rc == -XEN_EAGAIN);
    if (rc)
        return false;
    if (exchange)
        *reg = old;
    regs->rip += mod == 2 ? 7 : 3 + mod;
    regs->rflags &= ~RFLAGS_RF;
    return true;
}

bool pv_emulate_pt_write(struct cpu_user_regs *regs, uint64_t va)
{
    struct vcpu *v = current_vcpu();
    if (!v->pv->kernel_mode)
        return false; /* the tables looked at are the kernel's */
    struct write_fault f = {
        .page_va = va & PAGE_MASK,
        .table = table_mapped_at(v, va),
    };
    if (!f.table)
        return false;
    if (write_entry(&f, regs, va)) {
        page_put_and_type(f.table);
        return true;
    }
    struct emulate_ctx ctx = {
        .ops = &ops,
        .regs = regs,
        .allow = EMULATE_MEMORY,
        .data = &f,
    };
    enum emulate_result result = emulate_one(&ctx);
    page_put_and_type(f.table);
    /* Otherwise the guest gets its page fault. */
    return result == EMULATE_OK || result == EMULATE_RETRY;
}
