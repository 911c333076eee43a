/*
 * Descriptor tables and segment bases: our own GDT and LDT, changed by update_descriptor, used by
 * loads of selectors; descriptors that give privilege refused; bases of FS and GS and their swap
 * on the way to user mode; 32-bit user code.
 */
#include "guest.h"
#include <xen/callback.h>

const char test_name[] = "segments";

/* Descriptors: type and flags as in the manuals, DPL 3. */
#define DATA32(base)                                                                               \
    (0x00cff3000000ffffUL | ((uint64_t)(base)&0xffffff) << 16 | ((uint64_t)(base)&0xff000000) << 32)
#define CODE64         0x00affb000000ffffUL
#define CODE32         0x00cffb000000ffffUL
#define DPL(d, n)      (((d) & ~(3UL << 45)) | (uint64_t)(n) << 45)
#define NOT_PRESENT(d) ((d) & ~(1UL << 47))
#define MSR_FS_BASE    0xc0000100
#define MSR_GS_BASE    0xc0000101
#define MSR_KGS_BASE   0xc0000102

static uint64_t *gdt, *ldt;

static long set_gdt(uint64_t mfn, unsigned entries)
{
    unsigned long frames[16] = {mfn};

    return HC(set_gdt, frames, entries);
}

static long set_desc(uint64_t *at, uint64_t value)
{
    return HC(update_descriptor, (mfn_of(at) << PAGE_SHIFT) | ((uint64_t)at & 0xfff), value);
}

static uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

static void wrmsr(uint32_t msr, uint64_t v)
{
    TRY("wrmsr", ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static uint32_t fs_read(uint64_t offset)
{
    uint32_t v = 0;

    TRY("movl %%fs:(%1), %0", : "+r"(v) : "r"(offset));
    return v;
}

/* Loads fs with a selector; false when it trapped. */
static bool load_fs(unsigned sel)
{
    TRY("movw %w0, %%fs", ::"r"(sel));
    return !trapped();
}

static void own_gdt(void)
{
    unsigned long frames[16] = {0};

    section("set_gdt");
    gdt = page_alloc();
    CHECK_EQ(set_gdt(mfn_of(gdt), 512), -XEN_EINVAL); /* still mapped writable */
    gdt[1] = DATA32(0x1000);
    CHECK_EQ(map_ro(gdt), 0);
    CHECK_EQ(set_gdt(mfn_of(gdt), 512), 0);
    CHECK_REFUSED(map_rw(gdt));
    CHECK(load_fs(8 | 3));
    CHECK_EQ(rdmsr(MSR_FS_BASE), 0x1000);
    CHECK(load_fs(0));
    CHECK(!load_fs(16 | 3)); /* null descriptor */
    CHECK_TRAP(T_GP, 16);
    /* The flat ones stay. */
    CHECK(load_fs(FLAT_KERNEL_SS));
    CHECK(load_fs(0));

    section("set_gdt refusals");
    CHECK_EQ(set_gdt(mfn_of(gdt), FIRST_RESERVED_GDT_ENTRY + 1), -XEN_EINVAL);
    CHECK_EQ(set_gdt(mfn_of(gdt), 0xffffffff), -XEN_EINVAL);
    CHECK_REFUSED(set_gdt(0xfffffffffUL, 512));
    CHECK_REFUSED(set_gdt(0x200, 512));
    CHECK_REFUSED(set_gdt(cr3_mfn(), 512)); /* a page table */
    CHECK_REFUSED(set_gdt(mfn_of(page_alloc()), 512));
    CHECK_EQ(HC(set_gdt, BAD_UNMAPPED, 512), -XEN_EFAULT);
    CHECK_EQ(HC(set_gdt, BAD_HYPERVISOR, 512), -XEN_EFAULT);
    frames[0] = mfn_of(gdt);
    frames[1] = 0x200;
    CHECK_REFUSED(HC(set_gdt, frames, 1024));
    CHECK(load_fs(8 | 3)); /* the old one is in force */
    CHECK(load_fs(0));
}

static void descriptors(void)
{
    uint64_t *plain = page_alloc();

    section("update_descriptor");
    CHECK_EQ(set_desc(&gdt[2], DATA32(0x2000)), 0);
    CHECK(load_fs(16 | 3));
    CHECK_EQ(rdmsr(MSR_FS_BASE), 0x2000);
    CHECK_EQ(set_desc(&gdt[2], 0), 0);
    CHECK(load_fs(0));
    CHECK(!load_fs(16 | 3));
    CHECK_EQ(set_desc(&gdt[3], NOT_PRESENT(DATA32(0))), 0);
    CHECK(!load_fs(24 | 3));
    CHECK_TRAP(T_NP, 24);
    /* Code and data of any level become level 3 or are refused: never more privileged. */
    for (unsigned dpl = 0; dpl < 3; dpl++) {
        if (set_desc(&gdt[4], DPL(DATA32(0), dpl)) == 0)
            CHECK_EQ(gdt[4] >> 45 & 3, 3);
        if (set_desc(&gdt[5], DPL(CODE64, dpl)) == 0)
            CHECK_EQ(gdt[5] >> 45 & 3, 3);
    }
    CHECK_EQ(set_desc(&gdt[5], CODE64), 0);
    CHECK_EQ(set_desc(&gdt[5], CODE32), 0);

    section("privileged descriptors");
    /* TSS, LDT, interrupt, trap and task gates of every level; call gates are left out here. */
    for (unsigned type = 1; type < 16; type++)
        for (unsigned dpl = 0; dpl < 4; dpl++)
            if (type != 4 && type != 12)
                CHECK_REFUSED(set_desc(&gdt[6], (uint64_t)type << 40 | 1UL << 47 |
                                                    (uint64_t)dpl << 45 | 0x100));
    if (is_trilby())
        CHECK_REFUSED(set_desc(&gdt[6], 0x0000ec0000330000UL | 0xe033UL << 16));
    else
        set_desc(&gdt[6], 0);
    CHECK_EQ(gdt[6], 0);
    CHECK_REFUSED(HC(update_descriptor, 0x200000, CODE64));
    CHECK_REFUSED(HC(update_descriptor, 0xfee00000, CODE64));
    CHECK_REFUSED(HC(update_descriptor, ~7UL, CODE64));
    CHECK_REFUSED(HC(update_descriptor, (mfn_of(gdt) << 12) + 4, CODE64)); /* misaligned */
    CHECK_REFUSED(HC(update_descriptor, cr3_mfn() << 12, CODE64));
    /* A page that is no descriptor page: a plain write. */
    CHECK_EQ(set_desc(&plain[7], DATA32(0)), 0);
    CHECK_EQ(plain[7], DATA32(0));
    /* And a GDT with a bad one in it is not taken. */
    plain[9] = 0x00008b0000000067UL; /* a busy TSS */
    CHECK_EQ(map_ro(plain), 0);
    CHECK_REFUSED(set_gdt(mfn_of(plain), 512));
    CHECK_EQ(map_rw(plain), 0);
    page_free(plain);
}

static void own_ldt(void)
{
    section("the LDT");
    ldt = page_alloc();
    ldt[0] = DATA32(0x3000);
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, (uint64_t)ldt + 8, 16), -XEN_EINVAL);
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, (uint64_t)ldt, 8193), -XEN_EINVAL);
    CHECK_REFUSED(mmuext2(MMUEXT_SET_LDT, BAD_HYPERVISOR, 16));
    CHECK_REFUSED(mmuext2(MMUEXT_SET_LDT, BAD_NONCANONICAL, 16));
    CHECK(!load_fs(4 | 3)); /* none yet */
    CHECK_EQ(map_ro(ldt), 0);
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, (uint64_t)ldt, 16), 0);
    CHECK(load_fs(4 | 3)); /* mapped when first used */
    CHECK_EQ(rdmsr(MSR_FS_BASE), 0x3000);
    CHECK_REFUSED(map_rw(ldt)); /* now it is a descriptor page */
    CHECK_EQ(set_desc(&ldt[1], DATA32(0x4000)), 0);
    CHECK(load_fs(8 | 4 | 3));
    CHECK_EQ(rdmsr(MSR_FS_BASE), 0x4000);
    CHECK(!load_fs(16 * 8 | 4 | 3)); /* behind its end */
    CHECK_EQ(this_cpu()->trap.vector, T_GP);
    CHECK(load_fs(0));
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK(!load_fs(4 | 3));
    CHECK_EQ(map_rw(ldt), 0); /* let go */
    /* A writable page, and one with a bad entry: the load faults, nobody dies. */
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, (uint64_t)ldt, 16), 0);
    CHECK(!load_fs(4 | 3));
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, 0, 0), 0);
    ldt[2] = 0x00008b0000000067UL;
    CHECK_EQ(map_ro(ldt), 0);
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, (uint64_t)ldt, 16), 0);
    CHECK(!load_fs(4 | 3));
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, 0x123456789000, 16), 0); /* nothing is mapped there */
    CHECK(!load_fs(4 | 3));
    CHECK_EQ(mmuext2(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK(load_fs(0));
}

static void bases(void)
{
    static uint32_t data[2] = {0x11111111, 0x22222222};

    section("segment bases");
    CHECK_EQ(HC(set_segment_base, SEGBASE_FS, data), 0);
    CHECK_EQ(fs_read(0), 0x11111111);
    CHECK_EQ(fs_read(4), 0x22222222);
    CHECK_EQ(rdmsr(MSR_FS_BASE), data);
    wrmsr(MSR_FS_BASE, (uint64_t)(data + 1));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(fs_read(0), 0x22222222);
    CHECK_EQ(HC(set_segment_base, SEGBASE_FS, BAD_NONCANONICAL), -XEN_EINVAL);
    wrmsr(MSR_FS_BASE, BAD_NONCANONICAL);
    CHECK_TRAP(T_GP, 0);
    CHECK_EQ(fs_read(0), 0x22222222);
    /* Any address may be a base; it is paging that protects. */
    CHECK_EQ(HC(set_segment_base, SEGBASE_FS, BAD_HYPERVISOR), 0);
    fs_read(0);
    CHECK_EQ(trapped(), 1);
    CHECK_EQ(this_cpu()->trap.vector, T_PF);
    CHECK_EQ(HC(set_segment_base, SEGBASE_FS, 0), 0);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_KERNEL, 0x5000), 0);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_USER, 0x6000), 0);
    CHECK_EQ(rdmsr(MSR_GS_BASE), 0x5000);
    CHECK_EQ(rdmsr(MSR_KGS_BASE), 0x6000);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_KERNEL, BAD_NONCANONICAL), -XEN_EINVAL);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_USER, BAD_NONCANONICAL), -XEN_EINVAL);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_USER_SEL, 0), 0);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_USER_SEL, 0x1233), 0); /* bad: null, not a fault */
    CHECK_EQ(HC(set_segment_base, 4, 0), -XEN_EINVAL);
    CHECK_EQ(HC(set_segment_base, ~0u, 0), -XEN_EINVAL);
}

extern char u_gs[], u_code32[], u_code32_end[], u_sys32[];
asm(".text\nu_gs: mov %gs:0, %rax; mov %fs:0, %rbx; syscall\n"
    ".code32\nu_code32: mov $0x12345678, %eax; mov %cs, %ecx; int $0x80\n"
    "u_sys32: mov $0x87654321, %eax; syscall; ud2\nu_code32_end:\n.code64\n");

#define LOW 0x400000UL

static void user(void)
{
    static uint64_t kernel_gs[1] = {0xaaaa}, user_gs[1] = {0xbbbb}, fs[1] = {0xcccc};
    struct callback_register cb = {.type = CALLBACKTYPE_syscall32,
                                   .address = (uint64_t)entry_syscall32};
    struct trap_info t[2] = {{.vector = 0x80,
                              .flags = 3,
                              .cs = FLAT_KERNEL_CS,
                              .address = (uint64_t)trap_entry_soft + 96 * SOFT_SIZE}};
    uint8_t *code = page_alloc();
    struct regs r;
    uint64_t v;

    section("GS in user mode and back");
    user_setup();
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_KERNEL, kernel_gs), 0);
    CHECK_EQ(HC(set_segment_base, SEGBASE_GS_USER, user_gs), 0);
    CHECK_EQ(HC(set_segment_base, SEGBASE_FS, fs), 0);
    user_regs(&r, u_gs);
    user_run(&r, 0);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    CHECK_EQ(r.rax, 0xbbbb);
    CHECK_EQ(r.rbx, 0xcccc);
    asm volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0xaaaa);
    CHECK_EQ(rdmsr(MSR_KGS_BASE), user_gs);

    section("32-bit user code");
    CHECK_EQ(HC(set_trap_table, t), 0);
    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), 0);
    memcpy(code, u_code32, (size_t)(u_code32_end - u_code32));
    CHECK_EQ(map_at(LOW, MAKE_PTE(mfn_of(code), PTE_RO)), 0);
    CHECK_EQ(mmu_set(mfn_of(user_l4) << 12, *pt_entry((void *)LOW, 4)), 0);
    user_regs(&r, (void *)LOW);
    r.cs = FLAT_USER_CS32;
    r.ss = FLAT_USER_SS32;
    user_run(&r, 0);
    CHECK_EQ(r.vector, 0x80);
    CHECK_EQ(r.rax, 0x12345678);
    CHECK_EQ(r.rcx & 0xffff, FLAT_USER_CS32);
    CHECK_EQ(r.cs & 0xffff, FLAT_USER_CS32);
    CHECK_EQ(r.rip, LOW + (uint64_t)(u_sys32 - u_code32));
    user_regs(&r, (void *)(LOW + (uint64_t)(u_sys32 - u_code32)));
    r.cs = FLAT_USER_CS32;
    user_run(&r, 0);
    /* SYSCALL of 32-bit code is AMD's; Intel's CPUs raise #UD. */
    CHECK_IN(r.vector, ENTRY_SYSCALL32, T_UD);
    CHECK_EQ(r.rax, 0x87654321);
    CHECK_EQ(r.cs & 0xffff, FLAT_USER_CS32);
}

void test_main(void)
{
    own_gdt();
    descriptors();
    own_ldt();
    bases();
    user();
    /* Back to no GDT of our own: its page is free again. */
    CHECK_EQ(HC(set_gdt, NULL, 0), 0);
    CHECK_EQ(map_rw(gdt), 0);
}
