/* SOURCES: hvm/walk.c mm/page_type.c mm/page.c lib/bitmap.c lib/spinlock.c fake/alloc.c */
/* SOURCES: fake/cpu.c fake/domain.c */
/*
 * The walk through a guest's page tables against a plain model of what the processor does (APM
 * vol. 2 chapter 5): without paging, 32-bit, PAE and long mode, any tables, any rights. Same
 * address, same error code, and the same A and D bits left in the tables.
 */
#include "fuzz.h"

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "hvm/hvm.h"

enum { PAGES = 8 }; /* the guest's memory */

static struct page *pages[PAGES];
static uint64_t memory[PAGES][512]; /* the model's */
static uint64_t registers[HVM_REGS];

static uint64_t get_reg(const struct vcpu *v, enum hvm_reg r)
{
    return registers[r];
}

static const struct hvm_ops fake_ops = {.get_reg = get_reg};
const struct hvm_ops *hvm_ops = &fake_ops;

void *p2m_borrow(const struct domain *d, uint64_t gpa, bool write)
{
    return gpa / 4096 < PAGES ? (uint8_t *)page_to_virt(pages[gpa / 4096]) + gpa % 4096 : NULL;
}

/* --- the model --- */

struct answer {
    bool ok;
    uint64_t gpa;
    uint32_t error;
};

#define BIT(n) (1UL << (n))

static uint64_t model_read(uint64_t at, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, (uint8_t *)memory[at / 4096] + at % 4096, size);
    return v;
}

static void model_set(uint64_t at, uint64_t bits)
{
    ((uint8_t *)memory[at / 4096])[at % 4096] |= bits;
}

/* Bits that must be zero in an entry of this level. */
static uint64_t must_be_zero(unsigned levels, unsigned level, bool large, bool nx)
{
    uint64_t bad = 0;
    if (levels == 2)
        return large ? BIT(21) : 0;
    for (unsigned i = cpu_features.phys_bits; i < 52; i++)
        bad |= BIT(i);
    if (!nx || (levels == 3 && level == 3))
        bad |= BIT(63);
    if (levels == 3)
        for (unsigned i = 52; i < 63; i++)
            bad |= BIT(i);
    if (level == 4)
        bad |= BIT(7);
    if (large)
        for (unsigned i = 13; i < (level == 3 ? 30 : 21); i++)
            bad |= BIT(i);
    return bad;
}

static struct answer model(uint64_t addr, unsigned access, bool ac)
{
    uint64_t cr0 = registers[HVM_CR0], cr4 = registers[HVM_CR4], efer = registers[HVM_EFER];
    unsigned levels = !(cr0 & BIT(31)) ? 0 : efer & BIT(10) ? 4 : cr4 & BIT(5) ? 3 : 2;
    bool write = access & HVM_WRITE, user = access & HVM_USER, fetch = access & HVM_FETCH;
    bool nx = levels > 2 && (efer & BIT(11)), smep = cr4 & BIT(20), smap = cr4 & BIT(21);
    bool writable = true, for_user = true, never_run = false;
    struct answer a = {.error =
                           (write ? 2 : 0) | (user ? 4 : 0) | (fetch && (nx || smep) ? 16 : 0)};
    if (levels != 4)
        addr = (uint32_t)addr;
    if (!levels)
        return (struct answer){.ok = true, .gpa = addr};
    unsigned size = levels == 2 ? 4 : 8, bits = levels == 2 ? 10 : 9;
    uint64_t table = registers[HVM_CR3] & (levels == 4   ? 0xffffffffff000UL
                                           : levels == 3 ? 0xffffffe0UL
                                                         : 0xfffff000UL);
    for (unsigned level = levels;; level--) {
        unsigned shift = 12 + bits * (level - 1);
        uint64_t at = table + (addr >> shift & (BIT(bits) - 1)) * size;
        if (at / 4096 >= PAGES)
            return a;
        uint64_t e = model_read(at, size);
        bool top_of_pae = levels == 3 && level == 3;
        bool large =
            level > 1 && level < 4 && !top_of_pae && (e & BIT(7)) && (levels > 2 || (cr4 & BIT(4)));
        if (!(e & 1))
            return a;
        if (e & must_be_zero(levels, level, large, nx)) {
            a.error |= 1 | 8;
            return a;
        }
        if (!top_of_pae) {
            writable = writable && (e & 2);
            for_user = for_user && (e & 4);
            never_run = never_run || (e & BIT(63));
        }
        if (level > 1 && !large) {
            if (!top_of_pae)
                model_set(at, 32);
            table = e & 0xffffffffff000UL;
            continue;
        }
        a.error |= 1;
        if (user && !for_user)
            return a;
        if (write && !writable && (user || (cr0 & BIT(16))))
            return a;
        if (fetch && ((nx && never_run) || (smep && !user && for_user)))
            return a;
        if (!fetch && smap && !ac && !user && for_user)
            return a;
        model_set(at, write ? 32 | 64 : 32);
        uint64_t inside = BIT(shift) - 1;
        a.gpa = (e & 0xffffffffff000UL & ~inside) | (addr & inside);
        if (levels == 2 && large)
            a.gpa = (e & 0xffc00000) | (e >> 13 & 0xff) << 32 | (addr & inside);
        a.ok = true;
        return a;
    }
}

/* --- one input --- */

static uint64_t entry(bool wide)
{
    uint64_t e = (uint64_t)(take8() % (PAGES + 1)) << 12;
    uint8_t kind = take8();
    e |= take8() | (kind & 3 ? 1 : 0);
    if (kind & 4)
        e &= ~BIT(7);
    if (kind & 8)
        e |= 7;
    if (wide && (kind & 0xc0) == 0xc0)
        e |= take64() & ~0xff000UL;
    if (wide && (kind & 0x30) == 0x30)
        e |= BIT(63);
    if (!wide && (kind & 0xc0) == 0xc0)
        e |= take32() & ~0xff000U;
    return e;
}

static void tables(bool wide)
{
    static const uint16_t wide_at[] = {0, 1, 2, 3, 511}, narrow_at[] = {0, 1, 512, 1023};
    memset(memory, 0, sizeof(memory));
    for (unsigned p = 0; p < PAGES; p++)
        for (unsigned i = 0; i < (wide ? ARRAY_SIZE(wide_at) : ARRAY_SIZE(narrow_at)); i++) {
            uint64_t e = entry(wide);
            uint32_t narrow = (uint32_t)e;
            if (wide)
                memory[p][wide_at[i]] = e;
            else
                memcpy((uint8_t *)memory[p] + 4 * narrow_at[i], &narrow, 4);
        }
    for (unsigned p = 0; p < PAGES; p++)
        memcpy(page_to_virt(pages[p]), memory[p], 4096);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vcpu *v;
    static struct stack_top stack;
    if (!v) {
        struct domain *d = fake_domain_new(1, 1, false);
        fake_ram_reset();
        v = d->vcpu[0];
        v->stack = &stack;
        for (unsigned i = 0; i < PAGES; i++)
            pages[i] = fake_domain_page(d);
    }
    input = data;
    input_left = size;
    uint8_t mode = take8(), more = take8();
    registers[HVM_CR0] = 1 | (mode & 1 ? 0 : BIT(31)) | (mode & 2 ? BIT(16) : 0);
    registers[HVM_CR4] = (mode & 4 ? BIT(5) : 0) | (mode & 8 ? BIT(4) : 0) |
                         (mode & 16 ? BIT(20) : 0) | (mode & 32 ? BIT(21) : 0);
    registers[HVM_EFER] = (mode & 64 ? BIT(11) : 0);
    if (!(mode & 1) && (mode & 4) && (more & 1))
        registers[HVM_EFER] |= BIT(8) | BIT(10);
    registers[HVM_CR3] = (uint64_t)(take8() % (PAGES + 1)) << 12 | (take8() & 0xff);
    bool ac = more & 2;
    v->stack->regs.rflags = 2 | (ac ? BIT(18) : 0);
    unsigned access = more & 4 ? HVM_WRITE : more & 8 ? HVM_FETCH : HVM_READ;
    access |= more & 16 ? HVM_USER : 0;
    uint64_t addr = 0;
    bool wide = mode & 4;
    for (unsigned i = 0; i < 4; i++) {
        static const uint16_t at[] = {0, 1, 2, 511}, at32[] = {0, 1, 512, 1023};
        addr = wide ? addr << 9 | at[take8() & 3] : addr << 10 | at32[take8() & 3];
    }
    addr = addr << 12 | (take32() & 0xfff);
    addr = (uint64_t)((int64_t)(addr << 16) >> 16);
    tables(wide);

    uint64_t gpa = 0;
    uint32_t error = 0;
    bool ok = hvm_walk(v, addr, access, &gpa, &error);
    struct answer want = model(addr, access, ac);
    CHECK(ok == want.ok);
    CHECK(ok ? gpa == want.gpa : error == want.error);
    for (unsigned p = 0; p < PAGES; p++)
        CHECK(!memcmp(page_to_virt(pages[p]), memory[p], 4096));
    return 0;
}
