/* SOURCES: pv/callback.c fake/cpu.c fake/guest.c */
/*
 * The frames with which a PV guest's kernel is entered, and their undoing by iret: layout, stacks,
 * event mask, modes, flags; what kills the domain; registering handlers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "event/event.h"
#include "fake/cpu.h"
#include "hypercall/table.h"
#include "pv/internal.h"

#include <xen/callback.h>

extern unsigned fake_guest_fault_in;

static struct domain d = {.id = 3};
static struct stack_top stack;
static struct pv_vcpu pv;
static struct vcpu_info info;
static struct vcpu v = {
    .domain = &d, .stack = &stack, .pv = &pv, .info = &info, .info_frame = {~0UL}};
#define regs (stack.regs)

static uint64_t kernel_stack[64] __attribute__((aligned(16)));
static uint64_t user_stack[64] __attribute__((aligned(16)));
static unsigned kills, switches;
static bool ldt_maps;

void domain_kill(struct domain *dead, const char *why, ...)
{
    assert_ptr_equal(dead, &d);
    kills++;
}
void pv_switch_mode(struct vcpu *vcpu, bool to_kernel)
{
    assert_int_not_equal(vcpu->pv->kernel_mode, to_kernel);
    vcpu->pv->kernel_mode = to_kernel;
    switches++;
}
bool pv_ldt_map_selector(struct vcpu *vcpu, uint16_t error_code)
{
    return ldt_maps && (error_code & 4);
}
void pv_segregs_read(uint16_t segs[4])
{
    for (unsigned i = 0; i < 4; i++)
        segs[i] = 0x10 + i;
}

#define HANDLER(n) (0x100000UL + (n)*16)

static int setup(void **state)
{
    fake_cpu[0].current = &v;
    memset(&pv, 0, sizeof(pv));
    memset(&stack, 0, sizeof(stack));
    memset(&info, 0, sizeof(info));
    memset(kernel_stack, 0xaa, sizeof(kernel_stack));
    memset(user_stack, 0xbb, sizeof(user_stack));
    kills = switches = 0;
    ldt_maps = false;
    fake_guest_fault_in = 0;
    v.id = 0;
    for (unsigned i = 0; i < 32; i++)
        pv.traps[i] = (struct pv_trap){HANDLER(i), FLAT_KERNEL_CS, 0};
    pv.kernel_mode = true;
    pv.kernel_sp = (uint64_t)&kernel_stack[64];
    pv.user_l4 = mfn(7);
    regs.rip = 0x1234;
    regs.cs = FLAT_KERNEL_CS;
    regs.ss = FLAT_KERNEL_SS;
    regs.rflags = RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF | RFLAGS_CF | 2;
    regs.rsp = (uint64_t)&kernel_stack[32];
    regs.rcx = 0xc;
    regs.r11 = 0x11;
    return 0;
}

static void user(void)
{
    pv.kernel_mode = false;
    regs.cs = FLAT_USER_CS64;
    regs.ss = FLAT_USER_SS64;
    regs.rsp = (uint64_t)&user_stack[32];
}

static void assert_entered(uint64_t handler, const uint64_t *frame)
{
    assert_int_equal(kills, 0);
    assert_int_equal(regs.rip, handler);
    assert_int_equal(regs.rsp, (uint64_t)frame);
    assert_int_equal(regs.cs, FLAT_KERNEL_CS);
    assert_int_equal(regs.ss, FLAT_KERNEL_SS);
    assert_int_equal(regs.rflags & (RFLAGS_TF | RFLAGS_AC | RFLAGS_RF | RFLAGS_NT), 0);
    assert_int_equal(regs.rflags & (RFLAGS_IF | RFLAGS_CF), RFLAGS_IF | RFLAGS_CF);
    assert_true(pv.kernel_mode);
}

static void test_kernel_fault_with_error(void **state)
{
    uint64_t rflags = regs.rflags, *f = &kernel_stack[32 - 8];
    pv_inject(&v, X86_GP, 0x1230);
    assert_entered(HANDLER(X86_GP), f);
    assert_int_equal(f[0], 0xc);
    assert_int_equal(f[1], 0x11);
    assert_int_equal(f[2], 0x1230);
    assert_int_equal(f[3], 0x1234);
    assert_int_equal(f[4], FLAT_KERNEL_CS & ~3); /* RPL 0: the kernel was interrupted */
    assert_int_equal(f[5], rflags);
    assert_int_equal(f[6], (uint64_t)&kernel_stack[32]);
    assert_int_equal(f[7], FLAT_KERNEL_SS);
    assert_true(kernel_stack[32] == 0xaaaaaaaaaaaaaaaaUL); /* nothing above */
    assert_true(f[-1] == 0xaaaaaaaaaaaaaaaaUL);            /* nor below */
    assert_int_equal(switches, 0);
}

static void test_fault_without_error(void **state)
{
    uint64_t *f = &kernel_stack[32 - 7];
    pv_inject(&v, X86_UD, 0x77);
    assert_entered(HANDLER(X86_UD), f);
    assert_int_equal(f[2], 0x1234);
}

static void test_which_have_error_codes(void **state)
{
    static const uint8_t with[] = {8, 10, 11, 12, 13, 14, 17};
    for (unsigned n = 0; n < 20; n++) {
        setup(NULL);
        pv_inject(&v, n, 5);
        assert_int_equal(((uint64_t)&kernel_stack[32] - regs.rsp) / 8,
                         memchr(with, n, sizeof(with)) ? 8 : 7);
    }
}

static void test_stack_is_aligned(void **state)
{
    regs.rsp = (uint64_t)&kernel_stack[32] + 5;
    pv_inject(&v, X86_GP, 0);
    assert_entered(HANDLER(X86_GP), &kernel_stack[32 - 8]);
    assert_int_equal(kernel_stack[32 - 2], (uint64_t)&kernel_stack[32] + 5);
}

static void test_user_goes_to_kernel_stack(void **state)
{
    uint64_t *f = &kernel_stack[64 - 8];
    user();
    pv_inject(&v, X86_GP, 9);
    assert_entered(HANDLER(X86_GP), f);
    assert_int_equal(switches, 1);
    assert_int_equal(f[4], FLAT_USER_CS64);
    assert_int_equal(f[6], (uint64_t)&user_stack[32]);
    assert_int_equal(f[7], FLAT_USER_SS64);
}

static void test_event_mask(void **state)
{
    uint64_t *f = &kernel_stack[32 - 7];
    pv.traps[X86_UD].flags = 4; /* TI_GET_IF: mask */
    pv_inject(&v, X86_UD, 0);
    assert_int_equal(info.evtchn_upcall_mask, 1);
    assert_int_equal(f[3] >> 32, 0);
    assert_int_equal(f[4] & RFLAGS_IF, RFLAGS_IF);
    /* Again, masked now: the frame says so, and it stays. */
    regs.rsp = (uint64_t)&kernel_stack[32];
    pv_inject(&v, X86_DE, 0);
    assert_int_equal(f[3] >> 32, 1);
    assert_int_equal(f[4] & RFLAGS_IF, 0);
    assert_int_equal(info.evtchn_upcall_mask, 1);
    assert_int_equal(regs.rflags & RFLAGS_IF, RFLAGS_IF); /* the machine's is never off */
}

static void test_page_fault(void **state)
{
    pv_inject_page_fault(&v, PF_USER | PF_WRITE, 0xdead);
    assert_int_equal(info.arch.cr2, 0xdead);
    assert_int_equal(kernel_stack[32 - 6], PF_WRITE); /* the kernel's fault is not a user's */
    setup(NULL);
    user();
    pv_inject_page_fault(&v, PF_USER | PF_WRITE, 0xbeef);
    assert_int_equal(kernel_stack[64 - 6], PF_WRITE | PF_USER);
    assert_int_equal(info.arch.cr2, 0xbeef);
}

static void test_no_handler(void **state)
{
    struct cpu_user_regs was = regs;
    pv.traps[X86_MF].address = 0;
    pv_inject(&v, X86_MF, 0);
    assert_int_equal(kills, 1);
    assert_memory_equal(&was, &regs, sizeof(was));
}

static void test_bad_kernel_stack(void **state)
{
    fake_guest_fault_in = 1;
    pv_inject(&v, X86_UD, 0);
    assert_int_equal(kills, 1);
    assert_int_equal(regs.rip, 0x1234);
    setup(NULL);
    user();
    pv.kernel_sp = 0; /* as it is before stack_switch */
    fake_guest_fault_in = 1;
    pv_inject(&v, X86_UD, 0);
    assert_int_equal(kills, 1);
}

static void test_syscall(void **state)
{
    uint64_t *f = &kernel_stack[64 - 7];
    user();
    pv.syscall_callback = 0x9000;
    pv_bounce_syscall(&v, false);
    assert_entered(0x9000, f);
    assert_int_equal(f[2], 0x1234);
    assert_int_equal(info.evtchn_upcall_mask, 0);
    setup(NULL);
    user();
    pv.syscall_callback = 0x9000;
    pv.syscall_disables_events = true;
    pv_bounce_syscall(&v, false);
    assert_int_equal(info.evtchn_upcall_mask, 1);
    /* 32-bit code has a callback of its own; without one the instruction does not exist. */
    setup(NULL);
    user();
    pv.syscall_callback = 0x9000;
    pv_bounce_syscall(&v, true);
    assert_entered(HANDLER(X86_UD), f);
    assert_int_equal(f[2], 0x1232);
    setup(NULL);
    user();
    pv.syscall32_callback = 0x9100;
    pv_bounce_syscall(&v, true);
    assert_entered(0x9100, f);
}

static void test_upcall(void **state)
{
    uint64_t *f = &kernel_stack[32 - 7];
    struct cpu_user_regs was = regs;
    info.evtchn_upcall_pending = 1;
    pv_deliver_upcall(&v); /* no callback yet */
    assert_memory_equal(&was, &regs, sizeof(was));
    pv.event_callback = 0x7000;
    info.evtchn_upcall_mask = 1;
    pv_deliver_upcall(&v); /* masked */
    assert_memory_equal(&was, &regs, sizeof(was));
    info.evtchn_upcall_mask = 0;
    pv_deliver_upcall(&v);
    assert_entered(0x7000, f);
    assert_int_equal(info.evtchn_upcall_mask, 1);
    assert_int_equal(f[3], FLAT_KERNEL_CS & ~3);
    assert_int_equal(f[4] & RFLAGS_IF, RFLAGS_IF);
    assert_int_equal(info.evtchn_upcall_pending, 1); /* the guest clears it */
}

static void test_nmi(void **state)
{
    pv.nmi_callback = 0x8000;
    pv.event_callback = 0x7000;
    info.evtchn_upcall_pending = 1;
    pv.nmi_pending = true;
    pv_deliver_upcall(&v);
    assert_entered(0x8000, &kernel_stack[32 - 7]); /* and the event waits, masked by it */
    assert_true(pv.in_nmi);
    pv.nmi_pending = true;
    regs.rip = 0x8010;
    pv_deliver_upcall(&v); /* not within another */
    assert_int_equal(regs.rip, 0x8010);
    assert_true(pv.nmi_pending);
}

static void test_failsafe(void **state)
{
    uint64_t *f = &kernel_stack[64 - 11];
    user();
    pv.failsafe_callback = 0x6000;
    pv_bad_return(&regs, X86_GP, 0x18);
    assert_entered(0x6000, f);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(f[2 + i], 0x10 + i); /* ds, es, fs, gs */
    assert_int_equal(f[6], 0x1234);
    assert_int_equal(f[7], FLAT_USER_CS64);
    /* A selector of an LDT page that can be had now: simply again. */
    setup(NULL);
    ldt_maps = true;
    pv_bad_return(&regs, X86_GP, 0x1c);
    assert_int_equal(regs.rip, 0x1234);
    /* None registered. */
    setup(NULL);
    pv_bad_return(&regs, X86_GP, 0);
    assert_int_equal(kills, 1);
    /* Selectors that could not be loaded when the vCPU came back. */
    setup(NULL);
    pv.failsafe_callback = 0x6000;
    pv.failsafe_pending = true;
    pv.failsafe_segs[2] = 0x77;
    pv_deliver_upcall(&v);
    assert_entered(0x6000, &kernel_stack[32 - 11]);
    assert_int_equal(kernel_stack[32 - 11 + 4], 0x77);
    assert_false(pv.failsafe_pending);
}

/* --- iret --- */

static void put_iret(uint64_t flags, uint64_t cs, uint64_t rflags)
{
    struct iret_context c = {.rax = 0xa,
                             .r11 = 0xb,
                             .rcx = 0xcc,
                             .flags = flags,
                             .rip = 0x4321,
                             .cs = cs,
                             .rflags = rflags,
                             .rsp = 0x8888,
                             .ss = 0x2b};
    memcpy(&kernel_stack[16], &c, sizeof(c));
    regs.rsp = (uint64_t)&kernel_stack[16];
}

static void test_iret_to_user(void **state)
{
    put_iret(0, 0x33, RFLAGS_IF | RFLAGS_CF);
    info.evtchn_upcall_mask = 1;
    pv.in_nmi = true;
    assert_int_equal(hc_iret(), 0xa);
    assert_int_equal(switches, 1);
    assert_false(pv.kernel_mode);
    assert_false(pv.in_nmi);
    assert_int_equal(regs.rip, 0x4321);
    assert_int_equal(regs.cs, 0x33);
    assert_int_equal(regs.ss, 0x2b);
    assert_int_equal(regs.rsp, 0x8888);
    assert_int_equal(regs.rcx, 0xcc);
    assert_int_equal(regs.r11, 0xb);
    assert_int_equal(regs.rflags, RFLAGS_IF | RFLAGS_CF | 2);
    assert_int_equal(info.evtchn_upcall_mask, 0);
}

static void test_iret_by_sysret(void **state)
{
    put_iret(VGCF_in_syscall, 0x33, RFLAGS_CF);
    assert_int_equal(hc_iret(), 0xa);
    assert_int_equal(regs.cs, FLAT_USER_CS64);
    assert_int_equal(regs.ss, FLAT_USER_SS64);
    assert_int_equal(regs.rcx, 0x4321);
    assert_int_equal(regs.r11, RFLAGS_CF | RFLAGS_IF | 2);
    assert_int_equal(info.evtchn_upcall_mask, 1); /* IF was clear in the frame */
}

static void test_iret_to_kernel(void **state)
{
    put_iret(0, FLAT_KERNEL_CS & ~3UL, RFLAGS_IF);
    hc_iret();
    assert_int_equal(switches, 0);
    assert_true(pv.kernel_mode);
    assert_int_equal(regs.cs, FLAT_KERNEL_CS);
}

static void test_iret_cannot_raise_privilege(void **state)
{
    for (unsigned rpl = 0; rpl < 3; rpl++) {
        setup(NULL);
        put_iret(0, 0xe008 | rpl, ~0UL);
        hc_iret();
        assert_int_equal(regs.cs & 3, 3);
        assert_int_equal(regs.ss & 3, 3);
        assert_int_equal(regs.rflags & (RFLAGS_IOPL | RFLAGS_NT | RFLAGS_VM), 0);
        assert_int_equal(regs.rflags & RFLAGS_IF, RFLAGS_IF);
        assert_int_equal(regs.rflags >> 22, 0);
    }
}

static void test_iret_refusals(void **state)
{
    put_iret(0, 0x33, 0);
    fake_guest_fault_in = 1;
    hc_iret();
    assert_int_equal(kills, 1);
    setup(NULL);
    put_iret(0, 0x33, 0);
    pv.user_l4 = MFN_NONE;
    hc_iret();
    assert_int_equal(kills, 1);
    assert_true(pv.kernel_mode);
}

static void test_round_trip(void **state)
{
    struct cpu_user_regs was;
    user();
    regs.rflags = RFLAGS_IF | RFLAGS_CF | 2;
    regs.rax = 0x5555;
    was = regs;
    pv_inject(&v, X86_UD, 0);
    /* As kernels do: registers popped, the frame's lower part replaced by rax, r11, rcx, flags. */
    uint64_t *f = (uint64_t *)regs.rsp;
    uint64_t rcx = f[0], r11 = f[1];
    f[1] = 0;
    f[0] = rcx;
    f[-1] = r11;
    f[-2] = regs.rax;
    regs.rsp = (uint64_t)&f[-2];
    regs.rax = hc_iret();
    assert_memory_equal(&was, &regs, sizeof(was));
    assert_int_equal(switches, 2);
}

/* --- without a vcpu_info the shared dummy stays as it is --- */
static void test_dummy_info(void **state)
{
    v.id = XEN_LEGACY_MAX_VCPUS;
    info.evtchn_upcall_mask = 1;
    put_iret(0, FLAT_KERNEL_CS & ~3UL, RFLAGS_IF);
    hc_iret();
    assert_int_equal(info.evtchn_upcall_mask, 1);
    regs.rsp = (uint64_t)&kernel_stack[32];
    pv_inject_page_fault(&v, 0, 0x1234);
    assert_int_equal(info.arch.cr2, 0);
}

/* --- registering --- */

static void test_set_trap_table(void **state)
{
    struct trap_info t[3] = {{5, 3, 0xe030, 0x5000}, {6, 4, 0xe030, 0x6000}, {0}};
    assert_int_equal(hc_set_trap_table((uint64_t)t), 0);
    assert_int_equal(pv.traps[5].address, 0x5000);
    assert_int_equal(pv.traps[5].flags, 3);
    assert_int_equal(pv.traps[5].cs, 0xe033);
    assert_int_equal(pv.traps[6].flags, 4);
    assert_int_equal(pv.traps[7].address, HANDLER(7)); /* others stay */
    t[0].address = 0x8000000000000000UL;
    assert_int_equal(hc_set_trap_table((uint64_t)t), -XEN_EINVAL);
    t[0].address = HV_VIRT_START;
    assert_int_equal(hc_set_trap_table((uint64_t)t), -XEN_EINVAL);
    fake_guest_fault_in = 1;
    assert_int_equal(hc_set_trap_table((uint64_t)t), -XEN_EFAULT);
    fake_guest_fault_in = 0;
    assert_int_equal(hc_set_trap_table(0), 0);
    assert_int_equal(pv.traps[5].address, 0);
    /* One without an end. */
    static struct trap_info endless[600];
    for (unsigned i = 0; i < 600; i++)
        endless[i] = (struct trap_info){1, 0, 0, 0x1000};
    assert_int_equal(hc_set_trap_table((uint64_t)endless), -XEN_E2BIG);
}

static long reg(unsigned type, unsigned flags, uint64_t address)
{
    struct callback_register c = {type, flags, address};
    return hc_callback_op(CALLBACKOP_register, (uint64_t)&c);
}

static long unreg(unsigned type)
{
    struct callback_unregister c = {.type = type};
    return hc_callback_op(CALLBACKOP_unregister, (uint64_t)&c);
}

static void test_callback_op(void **state)
{
    assert_int_equal(reg(CALLBACKTYPE_event, 0, 0x1000), 0);
    assert_int_equal(pv.event_callback, 0x1000);
    assert_int_equal(reg(CALLBACKTYPE_failsafe, CALLBACKF_mask_events, 0x2000), 0);
    assert_true(pv.failsafe_disables_events);
    assert_int_equal(reg(CALLBACKTYPE_syscall, CALLBACKF_mask_events, 0x3000), 0);
    assert_true(pv.syscall_disables_events);
    assert_int_equal(reg(CALLBACKTYPE_syscall, 0, 0x3000), 0);
    assert_false(pv.syscall_disables_events);
    assert_int_equal(reg(CALLBACKTYPE_syscall32, 0, 0x4000), 0);
    assert_int_equal(reg(CALLBACKTYPE_nmi, 0, 0x5000), 0);
    assert_int_equal(reg(CALLBACKTYPE_sysenter, 0, 0x6000), -XEN_ENOSYS);
    assert_int_equal(reg(200, 0, 0x6000), -XEN_ENOSYS);
    assert_int_equal(reg(CALLBACKTYPE_event, 0, 1UL << 63), -XEN_EINVAL);
    assert_int_equal(pv.event_callback, 0x1000);
    assert_int_equal(unreg(CALLBACKTYPE_event), -XEN_EINVAL);
    assert_int_equal(unreg(CALLBACKTYPE_nmi), 0);
    assert_int_equal(pv.nmi_callback, 0);
    assert_int_equal(unreg(200), -XEN_ENOSYS);
    assert_int_equal(hc_callback_op(9, 0), -XEN_ENOSYS);
    assert_int_equal(hc_set_callbacks(0x10, 0x20, 1UL << 62), -XEN_EINVAL);
    assert_int_equal(pv.event_callback, 0x1000); /* none of the three */
    assert_int_equal(hc_set_callbacks(0x10, 0x20, 0x30), 0);
    assert_int_equal(pv.syscall_callback, 0x30);
    assert_int_equal(hc_stack_switch(0x18, 0x7000), 0);
    assert_int_equal(pv.kernel_ss, 0x1b);
    assert_int_equal(pv.kernel_sp, 0x7000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kernel_fault_with_error, setup),
        cmocka_unit_test_setup(test_fault_without_error, setup),
        cmocka_unit_test_setup(test_which_have_error_codes, setup),
        cmocka_unit_test_setup(test_stack_is_aligned, setup),
        cmocka_unit_test_setup(test_user_goes_to_kernel_stack, setup),
        cmocka_unit_test_setup(test_event_mask, setup),
        cmocka_unit_test_setup(test_page_fault, setup),
        cmocka_unit_test_setup(test_no_handler, setup),
        cmocka_unit_test_setup(test_bad_kernel_stack, setup),
        cmocka_unit_test_setup(test_syscall, setup),
        cmocka_unit_test_setup(test_upcall, setup),
        cmocka_unit_test_setup(test_nmi, setup),
        cmocka_unit_test_setup(test_failsafe, setup),
        cmocka_unit_test_setup(test_iret_to_user, setup),
        cmocka_unit_test_setup(test_iret_by_sysret, setup),
        cmocka_unit_test_setup(test_iret_to_kernel, setup),
        cmocka_unit_test_setup(test_iret_cannot_raise_privilege, setup),
        cmocka_unit_test_setup(test_iret_refusals, setup),
        cmocka_unit_test_setup(test_round_trip, setup),
        cmocka_unit_test_setup(test_dummy_info, setup),
        cmocka_unit_test_setup(test_set_trap_table, setup),
        cmocka_unit_test_setup(test_callback_op, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
