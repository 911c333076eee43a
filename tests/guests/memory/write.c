/*
 * Writable page tables (VMASST_TYPE_writable_pagetables): a write to a read-only mapped level 1
 * table is done for us when the new entry is a fair one, and is a page fault when it is not. Each
 * instruction that kernels use for it, of every width.
 */
#include "guest.h"
#include "memory.h"

#define AREA 0x0000410000000000UL

static uint64_t area; /* first AREA, whose entry is the first of its table, then one behind it */
static volatile uint64_t *e; /* the entry under test, of a live table */
static uint64_t *page, good, ro;

static bool mapped_rw(void)
{
    mmuext(MMUEXT_INVLPG_LOCAL, area);
    return try_write((void *)area, 1);
}

static void moves(void)
{
    uint64_t v;

    section("writes of level 1 entries");
    TRY("movq %1, %0", : "=m"(*e) : "r"(good));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(*e & ~(PTE_A | PTE_D | PTE_G), good & ~(PTE_A | PTE_D | PTE_G));
    CHECK(mapped_rw());
    TRY("movq $0, %0", : "=m"(*e)); /* an immediate of 32 bits */
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(*e, 0);
    CHECK(!mapped_rw());
    v = good;
    TRY("xchgq %1, %0", : "+m"(*e), "+r"(v));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(v, 0);
    CHECK(mapped_rw());
    v = ro;
    TRY("xchgq %1, %0", : "+m"(*e), "+r"(v));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(v & PTE_ADDR, good & PTE_ADDR);
    CHECK(!mapped_rw());
    /* Compare and exchange: right, then wrong. */
    v = *e;
    TRY("lock cmpxchgq %2, %0", : "+m"(*e), "+a"(v) : "r"(good));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(*e & PTE_RW, PTE_RW);
    v = 0x1230;
    TRY("lock cmpxchgq %2, %0", : "+m"(*e), "+a"(v) : "r"(0UL));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(v, *e);
    CHECK_EQ(*e & PTE_RW, PTE_RW);
    v = *e;
    TRY("cmpxchgq %2, %0", : "+m"(*e), "+a"(v) : "r"(ro));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(*e & PTE_RW, 0);
}

/* Registers and displacements in all their encodings: each leaves rip behind itself. */
static void forms(void)
{
    section("encodings of writes to level 1 entries");
#define FORM(text, distance, value)                                                                \
    do {                                                                                           \
        uint64_t was = *e, v = (value);                                                            \
        __asm__ volatile("mov %1, %%r9; mov %1, %%r12; mov %1, %%r13; mov %1, %%rdx\n"             \
                         "mov %0, %%rcx; mov %0, %%r15\n" text "\n"                                \
                         "xor %%rcx, %0; xor %%r15, %0" /* the value, or what XCHG gave */         \
                         : "+&a"(v)                                                                \
                         : "S"((uint64_t)e - (distance))                                           \
                         : "rcx", "rdx", "r9", "r12", "r13", "r15", "memory", "cc");               \
        CHECK_EQ(v | PTE_A | PTE_D, (text[0] == 'x' ? was : (value)) | PTE_A | PTE_D);             \
        CHECK_EQ(*e, value);                                                                       \
        *e = good;                                                                                 \
    } while (0)
    FORM("movq %%rcx, (%%rdx)", 0, ro);
    FORM("movq %%r15, (%%rdx)", 0, ro);
    FORM("movq %%rcx, (%%r9)", 0, 0);
    FORM("movq %%r15, 8(%%r9)", 8, ro);
    FORM("movq %%rcx, -128(%%r13)", -128L, 0);
    FORM("movq %%r15, (%%r13)", 0, ro);
    FORM("movq %%r15, 128(%%r9)", 128, 0);
    FORM("movq %%rcx, 0x1000(%%rdx)", 0x1000, ro);
    FORM("movq %%rcx, (%%r12)", 0, ro);
    FORM("movq %%rcx, 16(%%r12)", 16, 0);
    FORM("xchgq %%rcx, (%%rdx)", 0, ro);
    FORM("xchgq %%r15, (%%r9)", 0, 0);
    FORM("xchgq %%r15, 0x7f(%%r13)", 0x7f, ro);
    FORM("xchgq %%rcx, 0x80(%%rdx)", 0x80, 0);
    FORM("xchgq %%r15, 8(%%r12)", 8, ro);
#undef FORM
}

static void bits(void)
{
    bool was;

    section("bit operations on level 1 entries");
    *e = good;
    TRY("lock andq %1, %0", : "+m"(*e) : "r"(~PTE_RW));
    CHECK_EQ(trapped(), 0);
    CHECK(!mapped_rw());
    TRY("lock orq %1, %0", : "+m"(*e) : "r"(PTE_RW));
    CHECK_EQ(trapped(), 0);
    CHECK(mapped_rw());
    TRY("lock btrq $1, %0; setc %1", : "+m"(*e), "=q"(was)); /* as clear_bit() and its kin */
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(was, 1);
    CHECK(!mapped_rw());
    TRY("lock btsq $1, %0; setc %1", : "+m"(*e), "=q"(was));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(was, 0);
    CHECK(mapped_rw());
    TRY("lock btrq %2, %0; setc %1", : "+m"(*e), "=q"(was) : "r"(1UL));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(was, 1);
    TRY("lock btcq $1, %0; setc %1", : "+m"(*e), "=q"(was));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(was, 0);
    CHECK(mapped_rw());
    TRY("lock xorq %1, %0", : "+m"(*e) : "r"(PTE_RW));
    CHECK_EQ(trapped(), 0);
    CHECK(!mapped_rw());
    /* Narrow ones: constant bits are cleared and set by bytes. */
    TRY("lock orb $2, %0", : "+m"(*e));
    CHECK_EQ(trapped(), 0);
    CHECK(mapped_rw());
    TRY("lock andb $0xfd, %0", : "+m"(*e));
    CHECK_EQ(trapped(), 0);
    CHECK(!mapped_rw());
    TRY("orl $2, %0", : "+m"(*e));
    CHECK_EQ(trapped(), 0);
    CHECK(mapped_rw());
    TRY("movl %1, %0", : "+m"(*e) : "r"((uint32_t)ro));
    CHECK_EQ(trapped(), 0);
    CHECK(!mapped_rw());
    TRY("orw $2, %0", : "+m"(*e));
    CHECK_EQ(trapped(), 0);
    CHECK(mapped_rw());
}

static void unfair(void)
{
    uint64_t before;
    struct trap *t = &this_cpu()->trap;
    volatile uint64_t *l2 = pt_entry((void *)area, 2);

    section("direct writes that are refused");
    *e = good;
    before = *e;
    /* The table itself, writable. */
    TRY("movq %1, %0", : "=m"(*e) : "r"(MAKE_PTE(mfn_of((void *)e), PTE_KERN)));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(t->cr2, e);
    CHECK_EQ(*e, before);
    TRY("movq %1, %0", : "=m"(*e) : "r"(MAKE_PTE(0x200, PTE_KERN)));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(*e, before);
    TRY("lock cmpxchgq %1, %0", : "+m"(*e) : "r"(MAKE_PTE(0xfffffffffUL, PTE_KERN)), "a"(before));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(*e, before);
    /* Upper levels are never written directly. */
    before = *l2;
    TRY("movq %1, %0", : "=m"(*l2) : "r"(0UL));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(*l2, before);
    /* Misaligned, across two entries. */
    TRY("movq %1, 4%0", : "=m"(*e) : "r"(0UL));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(*e & PTE_P, PTE_P);
    /* From the page before, which is writable, into the table's first entry. */
    volatile uint64_t *table = (void *)((uint64_t)e & ~(PAGE_SIZE - 1UL));
    CHECK_EQ(map_at(AREA + 16 * PAGE_SIZE, good), 0);
    CHECK_EQ(map_at(AREA + 17 * PAGE_SIZE, MAKE_PTE(mfn_of((void *)table), PTE_RO)), 0);
    before = *table;
    TRY("movq %1, %0", : "=m"(*(uint64_t *)(AREA + 17 * PAGE_SIZE - 4)) : "r"(0UL));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(*table, before);
}

void writable_tables(void)
{
    long ret = HC(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables);

    section("vm_assist");
    CHECK_EQ(ret, 0);
    CHECK_EQ(HC(vm_assist, VMASST_CMD_enable, VMASST_TYPE_pae_extended_cr3), 0);
    CHECK_REFUSED(HC(vm_assist, VMASST_CMD_enable, 63));
    CHECK_REFUSED(HC(vm_assist, VMASST_CMD_enable, 64));
    CHECK_EQ(HC(vm_assist, 7, VMASST_TYPE_writable_pagetables), -XEN_ENOSYS);
    page = page_alloc();
    good = MAKE_PTE(mfn_of(page), PTE_KERN);
    ro = MAKE_PTE(mfn_of(page), PTE_RO);
    for (area = AREA; area <= AREA + 5 * PAGE_SIZE; area += 5 * PAGE_SIZE) {
        CHECK_EQ(map_at(area, good), 0);
        e = pt_entry((void *)area, 1);
        moves();
        forms();
        bits();
        unfair();
    }
}
