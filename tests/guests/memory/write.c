/*
 * Writable page tables (VMASST_TYPE_writable_pagetables): a write to a read-only mapped level 1
 * table is done for us when the new entry is a fair one, and is a page fault when it is not. Each
 * instruction that kernels use for it, of every width.
 */
#include "guest.h"
#include "memory.h"

#define AREA 0x0000410000000000UL

static volatile uint64_t *e; /* the entry under test, of a live table */
static uint64_t *page, good, ro;

static bool mapped_rw(void)
{
    mmuext(MMUEXT_INVLPG_LOCAL, AREA);
    return try_write((void *)AREA, 1);
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
    volatile uint64_t *l2 = pt_entry((void *)AREA, 2);

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
    CHECK_EQ(map_at(AREA, good), 0);
    e = pt_entry((void *)AREA, 1);
    moves();
    bits();
    unfair();
}
