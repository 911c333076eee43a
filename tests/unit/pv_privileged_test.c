/* SOURCES: pv/privileged.c pv/msr.c emulate/decode.c emulate/address.c emulate/vector.c emulate/execute.c emulate/alu.c emulate/string.c emulate/privileged.c lib/range.c lib/spinlock.c fake/cpu.c fake/alloc.c fake/guest.c */
/*
 * What a PV guest gets of privileged instructions: ports by level, bitmap and ownership, PCI
 * configuration for domain 0 alone, its own view of CR, DR and MSRs, #GP for the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "irq/irq.h"
#include "pv/internal.h"

extern unsigned fake_guest_fault_in;

static struct pv_domain pd;
static struct domain d = {.id = 3, .pv = &pd};
static struct stack_top stack;
static struct pv_vcpu pv;
static struct vcpu_info info;
static struct vcpu v = {
    .domain = &d, .stack = &stack, .pv = &pv, .info = &info, .info_frame = {~0UL}};
#define regs (stack.regs)

static struct {
    unsigned vector, error, injected, switches, cr_loads;
    uint64_t cr2, fs, gs, shadow, xcr0, l4;
    uint16_t pci_bdf, pci_reg;
    unsigned pci_size, pci_reads, pci_writes;
    uint32_t pci_value;
    int set_l4;
} seen;

void pv_inject(struct vcpu *vcpu, unsigned vector, uint32_t error_code)
{
    seen.injected++;
    seen.vector = vector;
    seen.error = error_code;
}
void pv_inject_page_fault(struct vcpu *vcpu, uint32_t error_code, uint64_t cr2)
{
    pv_inject(vcpu, X86_PF, error_code);
    seen.cr2 = cr2;
}
void cpu_set_tsc_aux(uint32_t value)
{
}
void pv_switch_mode(struct vcpu *vcpu, bool to_kernel)
{
    vcpu->pv->kernel_mode = to_kernel;
    seen.switches++;
}
uint64_t pv_walk(mfn_t l4, uint64_t va, uint64_t *access)
{
    return 0;
}
uint64_t pv_read_fs_base(void)
{
    return seen.fs;
}
uint64_t pv_read_gs_base(void)
{
    return seen.gs;
}
uint64_t pv_read_gs_shadow(void)
{
    return seen.shadow;
}
void pv_write_fs_base(uint64_t base)
{
    seen.fs = base;
}
void pv_write_gs_base(uint64_t base)
{
    seen.gs = base;
}
void pv_write_gs_shadow(uint64_t base)
{
    seen.shadow = base;
}
void pv_cr_load(struct vcpu *vcpu)
{
    seen.cr_loads++;
}
uint64_t pv_cr4_for_guest(uint64_t wanted)
{
    return (wanted & CR4_GUEST_MASK) | CR4_PAE;
}
int pv_set_l4(struct vcpu *vcpu, mfn_t l4, bool is_user)
{
    seen.l4 = l4.n;
    return seen.set_l4;
}
int pv_debugreg_get(const struct vcpu *vcpu, unsigned reg, uint64_t *value)
{
    *value = pv.debugreg[reg];
    return 0;
}
int pv_debugreg_set(struct vcpu *vcpu, unsigned reg, uint64_t value)
{
    if (value == 0xbad)
        return -XEN_EPERM;
    pv.debugreg[reg] = value;
    return 0;
}
void pv_write_hypercall_page(void *page)
{
}
int page_get_and_type(struct page *page, const struct domain *owner, enum page_type type)
{
    return -XEN_EPERM;
}
void page_put_and_type(struct page *page)
{
}
void fpu_set_xcr0(uint64_t xcr0)
{
    seen.xcr0 = xcr0;
}
void cpuid_guest(const struct domain *of, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    memset(out, 0, 16);
}
int rdmsr_safe(uint32_t msr, uint64_t *value)
{
    *value = msr;
    return 0;
}
uint32_t pci_read(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size)
{
    seen.pci_reads++;
    seen.pci_bdf = bus << 8 | devfn;
    seen.pci_reg = reg;
    seen.pci_size = size;
    return 0x12345678;
}
void pci_write(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size,
               uint32_t value)
{
    seen.pci_writes++;
    seen.pci_bdf = bus << 8 | devfn;
    seen.pci_reg = reg;
    seen.pci_size = size;
    seen.pci_value = value;
}

static uint8_t code[PAGE_SIZE] __attribute__((aligned(4096)));

static int setup(void **state)
{
    fake_cpu[0].current = &v;
    memset(&pv, 0, sizeof(pv));
    memset(&stack, 0, sizeof(stack));
    memset(&info, 0, sizeof(info));
    memset(&seen, 0, sizeof(seen));
    memset(&pd, 0, sizeof(pd));
    spin_init(&d.lock, RANK_DOMAIN);
    range_free(&d.ioports);
    range_free(&d.iomem);
    fake_guest_fault_in = 0;
    d.privileged = false;
    pv.kernel_mode = true;
    pv.iopl = 1;
    pv.traps[X86_GP].address = 0x1000;
    pv.guest_l4 = mfn(0x77);
    pv.ctrl_cr4 = CR4_PAE;
    regs.cs = FLAT_KERNEL_CS;
    regs.rflags = 0x202;
    return 0;
}

static int teardown(void **state)
{
    range_free(&d.ioports);
    range_free(&d.iomem);
    return 0;
}

/* True when it was executed: rip behind it, nothing injected. */
static bool run(const char *bytes, unsigned n)
{
    memset(code, 0x90, 32);
    memcpy(code, bytes, n);
    regs.rip = (uint64_t)code;
    seen.injected = 0;
    if (!pv_emulate_privileged(&regs)) {
        assert_int_equal(regs.rip, (uint64_t)code);
        assert_int_equal(seen.injected, 0);
        seen.vector = X86_GP; /* what the caller injects */
        seen.error = 0;
        return false;
    }
    if (seen.injected) {
        assert_int_equal(regs.rip, (uint64_t)code);
        return false;
    }
    assert_int_equal(regs.rip, (uint64_t)code + n);
    return true;
}
#define RUN(bytes) run(bytes, sizeof(bytes) - 1)
#define assert_gp(bytes)                                                                           \
    do {                                                                                           \
        assert_false(RUN(bytes));                                                                  \
        assert_int_equal(seen.vector, X86_GP);                                                     \
        assert_int_equal(seen.error, 0);                                                           \
    } while (0)

#define IN_AL_DX   "\xec"
#define IN_EAX_DX  "\xed"
#define OUT_DX_EAX "\xef"
#define OUT_DX_AL  "\xee"

static void test_port_levels(void **state)
{
    regs.rdx = 0x60;
    regs.rax = 0;
    assert_true(RUN(IN_AL_DX)); /* level 1, but not its port: nothing is there */
    assert_int_equal(regs.rax, 0xff);
    assert_true(RUN(OUT_DX_AL));
    pv.iopl = 0;
    assert_gp(IN_AL_DX);
    pv.kernel_mode = false;
    pv.iopl = 2;
    assert_gp(IN_AL_DX);
    pv.iopl = 3;
    assert_true(RUN(IN_AL_DX));
}

static void test_port_bitmap(void **state)
{
    uint8_t bitmap[16];
    memset(bitmap, 0xff, sizeof(bitmap));
    bitmap[0x61 / 8] = ~(1 << (0x61 % 8));
    pv.iopl = 0;
    pv.kernel_mode = false;
    assert_int_equal(pv_set_iobitmap(&v, (uint64_t)bitmap, 65537), -XEN_EINVAL);
    assert_int_equal(pv_set_iobitmap(&v, (uint64_t)bitmap, 128), 0);
    regs.rdx = 0x61;
    assert_true(RUN(IN_AL_DX));
    assert_int_equal(seen.switches, 2); /* the bitmap is in the kernel's memory */
    assert_false(pv.kernel_mode);
    regs.rdx = 0x60;
    assert_gp(IN_AL_DX);
    regs.rdx = 0x61;
    assert_gp(IN_EAX_DX); /* all four ports must be free */
    bitmap[0x61 / 8] = 0xe1;
    assert_true(RUN(IN_EAX_DX));
    bitmap[0x66 / 8] = 0x3f; /* 0x66 and 0x67, and the byte behind */
    bitmap[0x66 / 8 + 1] = 0xfc;
    regs.rdx = 0x66;
    assert_true(RUN(IN_EAX_DX));
    bitmap[0x66 / 8 + 1] = 0xfe;
    assert_gp(IN_EAX_DX);
    regs.rdx = 0x7e; /* at and over its end */
    memset(bitmap, 0, sizeof(bitmap));
    assert_gp(IN_EAX_DX);
    assert_true(RUN(IN_AL_DX));
    regs.rdx = 0x80;
    assert_gp(IN_AL_DX);
    fake_guest_fault_in = 2; /* first the code, then the bitmap */
    regs.rdx = 0x61;
    assert_gp(IN_AL_DX);
    assert_int_equal(pv_set_iobitmap(&v, 0, 0), 0);
    fake_guest_fault_in = 0;
    assert_gp(IN_AL_DX);
}

static void test_pci(void **state)
{
    d.privileged = true;
    regs.rdx = 0xcf8;
    regs.rax = 0x8a001234 | 3; /* enabled, register 0x234, extended 0xa00 */
    assert_true(RUN(OUT_DX_EAX));
    regs.rax = 0;
    assert_true(RUN(IN_EAX_DX));
    assert_int_equal(regs.rax, 0x8a001237);
    regs.rdx = 0xcfc;
    assert_true(RUN(IN_EAX_DX));
    assert_int_equal(regs.rax, 0x12345678);
    assert_int_equal(seen.pci_bdf, 0x0012);
    assert_int_equal(seen.pci_reg, 0xa34);
    assert_int_equal(seen.pci_size, 4);
    regs.rdx = 0xcff;
    assert_true(RUN(IN_AL_DX));
    assert_int_equal(seen.pci_reg, 0xa37);
    assert_int_equal(seen.pci_size, 1);
    regs.rax = 0x55;
    assert_true(RUN(OUT_DX_AL));
    assert_int_equal(seen.pci_writes, 1);
    assert_int_equal(seen.pci_value & 0xff, 0x55);
    regs.rdx = 0xcfe; /* across the data register's end: no device */
    unsigned reads = seen.pci_reads;
    assert_true(RUN(IN_EAX_DX));
    assert_int_equal(regs.rax, 0xffffffff);
    assert_int_equal(seen.pci_reads, reads);
    /* The address is each domain's own, and only domain 0 gets anything from it. */
    assert_int_equal(pd.pci_address, 0x8a001237);
    d.privileged = false;
    regs.rdx = 0xcfc;
    assert_true(RUN(IN_EAX_DX));
    assert_int_equal(regs.rax, 0xffffffff);
    assert_true(RUN(OUT_DX_EAX));
    assert_int_equal(seen.pci_reads, reads);
    assert_int_equal(seen.pci_writes, 1);
    d.privileged = true;
    regs.rdx = 0xcf8;
    regs.rax = 0x1234; /* not enabled */
    assert_true(RUN(OUT_DX_EAX));
    regs.rdx = 0xcfc;
    assert_true(RUN(IN_EAX_DX));
    assert_int_equal(seen.pci_reads, reads);
}

static void test_string_fault(void **state)
{
    regs.rdx = 0x60;
    regs.rdi = 16; /* page 0 faults */
    assert_false(RUN("\x6c"));
    assert_int_equal(seen.vector, X86_PF);
    assert_int_equal(seen.error & PF_WRITE, PF_WRITE);
    assert_int_equal(seen.cr2, 16);
    regs.rsi = 24;
    assert_false(RUN("\x6e"));
    assert_int_equal(seen.vector, X86_PF);
    assert_int_equal(seen.error & PF_WRITE, 0);
}

static void test_control_registers(void **state)
{
    assert_true(RUN("\x0f\x20\xc0"));
    assert_int_equal(regs.rax & (CR0_PE | CR0_PG | CR0_WP | CR0_TS), CR0_PE | CR0_PG | CR0_WP);
    regs.rax |= CR0_TS;
    assert_true(RUN("\x0f\x22\xc0"));
    assert_true(pv.ctrl_cr0_ts != 0);
    assert_int_equal(seen.cr_loads, 1);
    assert_true(RUN("\x0f\x06")); /* clts */
    assert_int_equal(pv.ctrl_cr0_ts, 0);
    regs.rax &= ~CR0_PG;
    assert_gp("\x0f\x22\xc0");
    assert_int_equal(pv.ctrl_cr0_ts, 0);
    regs.rax = 0x1122;
    assert_true(RUN("\x0f\x22\xd0"));
    assert_int_equal(info.arch.cr2, 0x1122);
    assert_true(RUN("\x0f\x20\xdb"));
    assert_int_equal(regs.rbx, 0x77000);
    regs.rax = 0x99000;
    assert_true(RUN("\x0f\x22\xd8"));
    assert_int_equal(seen.l4, 0x99);
    seen.set_l4 = -XEN_EINVAL;
    assert_gp("\x0f\x22\xd8");
    regs.rax = CR4_TSD | CR4_SMEP | 1UL << 13;
    assert_true(RUN("\x0f\x22\xe0"));
    assert_int_equal(pv.ctrl_cr4, CR4_TSD | CR4_PAE);
    regs.rax = 0xbad;
    assert_gp("\x0f\x23\xc8"); /* dr1 */
    regs.rax = 0x1000;
    assert_true(RUN("\x0f\x23\xc8"));
    assert_true(RUN("\x0f\x21\xc9"));
    assert_int_equal(regs.rcx, 0x1000);
}

static bool read_msr(uint32_t msr)
{
    regs.rcx = msr;
    return RUN("\x0f\x32");
}
static bool write_msr(uint32_t msr, uint64_t value)
{
    regs.rcx = msr;
    regs.rax = (uint32_t)value;
    regs.rdx = value >> 32;
    return RUN("\x0f\x30");
}

static void test_msrs(void **state)
{
    cpu_features.rdtscp = true;
    assert_true(write_msr(MSR_FS_BASE, 0x123456789abc));
    assert_true(seen.fs == 0x123456789abc);
    assert_true(read_msr(MSR_FS_BASE));
    assert_int_equal(regs.rax, 0x56789abc);
    assert_int_equal(regs.rdx, 0x1234);
    assert_true(write_msr(MSR_GS_BASE, 5));
    assert_true(write_msr(MSR_KERNEL_GS_BASE, 6));
    assert_int_equal(seen.gs, 5);
    assert_int_equal(seen.shadow, 6);
    assert_false(write_msr(MSR_GS_BASE, 1UL << 63));
    assert_int_equal(seen.vector, X86_GP);
    assert_int_equal(seen.gs, 5);
    assert_false(write_msr(MSR_TSC_AUX, 1UL << 32));
    assert_true(write_msr(MSR_LSTAR, 0xffff800000000000)); /* not its own: no effect */
    assert_true(read_msr(MSR_LSTAR));
    assert_int_equal(regs.rax | regs.rdx, 0);
    assert_false(read_msr(0xdead0000));
    assert_false(write_msr(0xdead0000, 0));
    assert_false(write_msr(0x79, 0)); /* microcode */
    assert_false(write_msr(0x40000000, 0x1001));
    /* Memory types are for domain 0 to read. */
    assert_false(read_msr(0x2ff));
    d.privileged = true;
    assert_true(read_msr(0x2ff));
    assert_int_equal(regs.rax, 0x2ff);
    assert_false(write_msr(0x2ff, 0));
    /* Before there is a handler a refusal would only kill. */
    pv.traps[X86_GP].address = 0;
    assert_true(read_msr(0xdead0000));
    assert_int_equal(regs.rax | regs.rdx, 0);
    assert_true(write_msr(0xdead0000, 1));
}

static void test_xsetbv(void **state)
{
    static const struct {
        uint64_t value;
        bool ok;
    } cases[] = {{1, true},
                 {3, true},
                 {7, true},
                 {0, false},
                 {5, false},
                 {2, false},
                 {7 | 1UL << 9, false},
                 {1UL << 63 | 7, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        setup(NULL);
        regs.rcx = 0;
        regs.rax = (uint32_t)cases[i].value;
        regs.rdx = cases[i].value >> 32;
        assert_int_equal(RUN("\x0f\x01\xd1"), cases[i].ok);
        assert_int_equal(seen.xcr0, cases[i].ok ? cases[i].value : 0);
    }
    regs.rcx = 1;
    regs.rax = 7;
    regs.rdx = 0;
    assert_gp("\x0f\x01\xd1");
}

static void test_user_mode(void **state)
{
    static const char *const privileged[] = {"\x0f\x20\xc0", "\x0f\x22\xc0", "\x0f\x01\xd1"};
    static const char *const two[] = {"\x0f\x30", "\x0f\x32", "\x0f\x06", "\x0f\x09"};
    pv.kernel_mode = false;
    for (unsigned iopl = 1; iopl <= 3; iopl += 2) {
        pv.iopl = iopl;
        for (unsigned i = 0; i < 3; i++)
            assert_false(run(privileged[i], 3));
        for (unsigned i = 0; i < 4; i++)
            assert_false(run(two[i], 2));
    }
    assert_true(RUN("\xfa")); /* level 3: cli, without effect */
    pv.iopl = 2;
    assert_gp("\xfa");
    pv.kernel_mode = true;
    pv.iopl = 1;
    assert_true(RUN("\xfb"));
    assert_int_equal(regs.rflags & RFLAGS_IF, RFLAGS_IF);
    pv.iopl = 0;
    assert_gp("\xfb");
    assert_gp("\xf4");         /* hlt */
    assert_gp("\x0f\x01\x1b"); /* lidt */
    assert_gp("\x89\x03");     /* a move that faulted is no business of ours */
}

static void test_single_step(void **state)
{
    regs.rflags |= RFLAGS_TF;
    memcpy(code, "\x0f\x06", 2);
    regs.rip = (uint64_t)code;
    assert_true(pv_emulate_privileged(&regs));
    assert_int_equal(regs.rip, (uint64_t)code + 2);
    assert_int_equal(seen.vector, X86_DB);
    assert_int_equal(pv.debugreg[6] & 0x4000, 0x4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_port_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_bitmap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pci, setup, teardown),
        cmocka_unit_test_setup_teardown(test_string_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_msrs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_xsetbv, setup, teardown),
        cmocka_unit_test_setup_teardown(test_user_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(test_single_step, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
