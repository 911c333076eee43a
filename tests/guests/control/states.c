/*
 * Registers that make no sense: a vCPU gets a stream with arbitrary bits in a few of its fields,
 * over each of the modes, and is let run. The CPU refuses it, it faults or runs wild; at worst its
 * domain ends.
 */
#include "control.h"
#include <xen/hvm/save.h>

#define ROUNDS 60

static uint64_t seed = 88172645463325252UL;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* A bit, a word of bits, or one of the values at which things change. */
static uint64_t spoil(uint64_t v)
{
    static const uint64_t edges[] = {0,          1,         0xffff,    0x10000, 0xfffff000,
                                     0xffffffff, 1UL << 47, 1UL << 63, ~0UL,    0xffff800000000000};
    switch (next() % 3) {
    case 0:
        return v ^ 1UL << next() % 64;
    case 1:
        return edges[next() % (sizeof(edges) / sizeof(edges[0]))];
    default:
        return v ^ (next() & next() & next());
    }
}

static void long_mode(struct hvm_hw_cpu *c)
{
    c->cr0 = 0x80000011;
    c->cr4 = 0x20;
    c->cr3 = HVM_RESULT_AT;
    c->msr_efer = 0x500;
    c->cs_arbytes = 0xa9b;
}

static void pae(struct hvm_hw_cpu *c)
{
    c->cr0 = 0x80000011;
    c->cr4 = 0x20;
    c->cr3 = HVM_RESULT_AT;
}

static void real_mode(struct hvm_hw_cpu *c)
{
    c->cr0 = 0x10;
    c->cs_base = c->ds_base = c->es_base = c->ss_base = 0;
    c->cs_limit = c->ds_limit = c->es_limit = c->ss_limit = 0xffff;
    c->cs_arbytes = 0x9b;
    c->ds_arbytes = c->es_arbytes = c->ss_arbytes = 0x93;
}

static void vm86(struct hvm_hw_cpu *c)
{
    real_mode(c);
    c->cr0 = 0x11;
    c->rflags = 0x20002;
    c->cs_arbytes = c->ds_arbytes = c->es_arbytes = c->ss_arbytes = 0xf3;
    c->fs_arbytes = c->gs_arbytes = 0xf3;
    c->fs_limit = c->gs_limit = 0xffff;
}

static void spoil_some(struct hvm_hw_cpu *c)
{
    for (unsigned n = next() % 3 + 1; n; n--)
        switch (next() % 24) {
#define SPOIL(i, field)                                                                            \
    case i:                                                                                        \
        c->field = (__typeof__(c->field))spoil(c->field);                                          \
        break;
            SPOIL(0, cr0)
            SPOIL(1, cr3)
            SPOIL(2, cr4)
            SPOIL(3, msr_efer)
            SPOIL(4, rflags)
            SPOIL(5, rip)
            SPOIL(6, cs_arbytes)
            SPOIL(7, ss_arbytes)
            SPOIL(8, ds_arbytes)
            SPOIL(9, tr_arbytes)
            SPOIL(10, ldtr_arbytes)
            SPOIL(11, cs_limit)
            SPOIL(12, tr_limit)
            SPOIL(13, cs_base)
            SPOIL(14, tr_base)
            SPOIL(15, fs_base)
            SPOIL(16, gdtr_limit)
            SPOIL(17, idtr_base)
            SPOIL(18, dr7)
            SPOIL(19, msr_lstar)
            SPOIL(20, msr_syscall_mask)
            SPOIL(21, shadow_gs)
            SPOIL(22, sysenter_eip)
            SPOIL(23, dr6)
#undef SPOIL
        }
}

/* It is left alone for a moment, and then ended wherever it is. */
static void run(uint16_t d, struct hvm_hw_cpu *c, bool *taken)
{
    spoil_some(c);
    *taken = !flat_stream(d);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    nap(300000);
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, d), 0);
    (void)flat_get(d);
}

void states(void)
{
    static void (*const modes[])(struct hvm_hw_cpu *) = {NULL, long_mode, pae, real_mode, vm86};
    uint64_t before = free_pages();
    unsigned ran = 0;

    section("registers that make no sense");
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint16_t d = hvm_build(XEN_X86_EMU_LAPIC);
        struct hvm_hw_cpu *c = flat_record();
        bool taken;

        if (modes[i % 5])
            modes[i % 5](c);
        run(d, c, &taken);
        ran += taken;
        CHECK_EQ(destroy(d), 0);
    }
    print("    %u of %u were tried\n", ran, ROUNDS);
    CHECK(ran > ROUNDS / 4);
    check_free(before, __FILE__, __LINE__);
}
