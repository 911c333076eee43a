/* SOURCES: pv/context.c pv/debugreg.c fake/cpu.c */
/*
 * struct vcpu_guest_context in and out: what is refused leaves the vCPU and all counts as they
 * were, what is set reads back, and privilege cannot come in this way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "pv/internal.h"

static struct domain d = {.id = 3};
static struct stack_top stack;
static struct pv_vcpu pv;
static struct vcpu_info info;
static uint8_t fpu[512];
static struct vcpu v = {.domain = &d,
                        .stack = &stack,
                        .pv = &pv,
                        .info = &info,
                        .info_frame = {~0UL},
                        .fpu = fpu},
                   running;
static struct vcpu_guest_context c, back;

#define FRAMES 64
static struct page frames[FRAMES];
struct page *frame_table = frames;
uint8_t *fake_ram;
static int l4_uses[FRAMES], gdt_uses;
static bool refuse_gdt;

bool mfn_is_ram(mfn_t m)
{
    return m.n < FRAMES;
}
int page_get_and_type(struct page *page, const struct domain *owner, enum page_type type)
{
    assert_int_equal(type, PAGE_L4);
    if (page - frames >= 32)
        return -XEN_EINVAL; /* not a top-level table */
    l4_uses[page - frames]++;
    return 0;
}
void page_put_and_type(struct page *page)
{
    l4_uses[page - frames]--;
}
int pv_descriptor_frames_get(struct domain *of, const uint64_t *list, unsigned n, mfn_t *out)
{
    if (refuse_gdt)
        return -XEN_EINVAL;
    gdt_uses += n;
    for (unsigned i = 0; i < n; i++)
        out[i] = mfn(list[i]);
    return 0;
}
void pv_descriptor_frames_put(const mfn_t *list, unsigned n)
{
    gdt_uses -= n;
}
void pv_gdt_install(struct vcpu *vcpu, const mfn_t *list, unsigned entries)
{
    gdt_uses -= pv_descriptor_pages(vcpu->pv->gdt_entries);
    for (unsigned i = 0; i < pv_descriptor_pages(entries); i++)
        vcpu->pv->gdt_frames[i] = list[i];
    vcpu->pv->gdt_entries = entries;
}
int pv_ldt_check(uint64_t base, uint64_t entries)
{
    return entries > 8192 ? -XEN_EINVAL : 0;
}
int pv_set_ldt(struct vcpu *vcpu, uint64_t base, unsigned entries)
{
    vcpu->pv->ldt_base = base;
    vcpu->pv->ldt_entries = entries;
    return 0;
}
int pv_trap_set(struct pv_trap *to, const struct trap_info *from)
{
    if (!is_guest_addr(from->address))
        return -XEN_EINVAL;
    *to = (struct pv_trap){from->address, from->cs | 3, from->flags & 7};
    return 0;
}
uint64_t pv_cr4_for_guest(uint64_t wanted)
{
    return wanted & CR4_GUEST_MASK;
}
void fpu_set_legacy(void *area, const void *fxsave)
{
    memcpy(area, fxsave, 512);
}
void fpu_get_legacy(const void *area, void *fxsave)
{
    memcpy(fxsave, area, 512);
}

static int setup(void **state)
{
    fake_cpu[0].current = &running;
    memset(&pv, 0, sizeof(pv));
    memset(&stack, 0, sizeof(stack));
    memset(&c, 0, sizeof(c));
    memset(l4_uses, 0, sizeof(l4_uses));
    memset(&info, 0, sizeof(info));
    gdt_uses = 0;
    refuse_gdt = false;
    pv.guest_l4 = mfn(1);
    pv.user_l4 = MFN_NONE;
    l4_uses[1] = 1;
    c.flags = VGCF_in_kernel | VGCF_online | VGCF_i387_valid | VGCF_syscall_disables_events;
    memset(&c.fpu_ctxt, 0x5c, sizeof(c.fpu_ctxt));
    for (unsigned i = 0; i < 15; i++)
        (&c.user_regs.r15)[i] = 0x1000 + i;
    c.user_regs.rip = 0xffffffff81000000;
    c.user_regs.rsp = 0xffffffff82000000;
    c.user_regs.cs = FLAT_KERNEL_CS & ~3;
    c.user_regs.ss = FLAT_KERNEL_SS;
    c.user_regs.rflags = RFLAGS_IF | 1UL << 12 | RFLAGS_CF;
    c.user_regs.ds = 0x2b;
    c.user_regs.fs = 0x33;
    c.trap_ctxt[14] = (struct trap_info){14, 4, FLAT_KERNEL_CS & ~3, 0xffffffff81001000};
    c.gdt_ents = 600;
    c.gdt_frames[0] = 40;
    c.gdt_frames[1] = 41;
    c.ldt_base = 0x5000;
    c.ldt_ents = 16;
    c.kernel_ss = FLAT_KERNEL_SS;
    c.kernel_sp = 0xffffffff82001000;
    c.ctrlreg[0] = CR0_TS;
    c.ctrlreg[1] = xen_pfn_to_cr3(3);
    c.ctrlreg[3] = xen_pfn_to_cr3(2);
    c.ctrlreg[4] = CR4_TSD | CR4_PAE;
    c.debugreg[0] = 0x7000;
    c.debugreg[7] = 1;
    c.event_callback_eip = 0xffffffff81002000;
    c.failsafe_callback_eip = 0xffffffff81003000;
    c.syscall_callback_eip = 0xffffffff81004000;
    c.fs_base = 0x1111;
    c.gs_base_kernel = 0xffff888000000000;
    c.gs_base_user = 0x3333;
    return 0;
}

static void test_set_and_get(void **state)
{
    assert_int_equal(pv_set_context(&v, &c), 0);
    assert_int_equal(l4_uses[1], 0);
    assert_int_equal(l4_uses[2], 1);
    assert_int_equal(l4_uses[3], 1);
    assert_int_equal(gdt_uses, 2);
    assert_true(pv.kernel_mode);
    assert_int_equal(pv.iopl, 1);
    assert_int_equal(stack.regs.cs, FLAT_KERNEL_CS);
    assert_int_equal(stack.regs.rflags, RFLAGS_IF | RFLAGS_CF | 2);

    pv_get_context(&v, &back);
    c.user_regs.rflags |= 2;
    assert_int_equal(back.flags, c.flags);
    assert_memory_equal(&back.fpu_ctxt, &c.fpu_ctxt, sizeof(c.fpu_ctxt));
    assert_memory_equal(&back.user_regs, &c.user_regs, sizeof(c.user_regs));
    assert_memory_equal(&back.gdt_frames, &c.gdt_frames, sizeof(c.gdt_frames));
    assert_int_equal(back.gdt_ents, 600);
    assert_int_equal(back.ldt_ents, 16);
    assert_int_equal(back.ctrlreg[1], c.ctrlreg[1]);
    assert_int_equal(back.ctrlreg[3], c.ctrlreg[3]);
    assert_int_equal(back.ctrlreg[4], c.ctrlreg[4]);
    assert_int_equal(back.ctrlreg[0] & CR0_TS, CR0_TS);
    assert_int_equal(back.debugreg[0], 0x7000);
    assert_int_equal(back.debugreg[7], 0x401);
    assert_int_equal(back.trap_ctxt[14].address, c.trap_ctxt[14].address);
    assert_int_equal(back.trap_ctxt[14].flags, 4);
    assert_int_equal(back.kernel_sp, c.kernel_sp);
    assert_true(back.syscall_callback_eip == c.syscall_callback_eip);
    assert_true(back.gs_base_kernel == c.gs_base_kernel);
    assert_true(back.gs_base_user == c.gs_base_user);
    /* What was read sets the same again, and nothing leaks. */
    assert_int_equal(pv_set_context(&v, &back), 0);
    assert_int_equal(l4_uses[2], 1);
    assert_int_equal(gdt_uses, 2);
    info.evtchn_upcall_mask = 1;
    pv_get_context(&v, &back);
    assert_int_equal(back.user_regs.rflags & RFLAGS_IF, 0);
    assert_int_equal(back.user_regs.saved_upcall_mask, 1);
}

static void test_privilege(void **state)
{
    c.user_regs.cs = 0xe008;
    c.user_regs.ss = 0xe010;
    c.user_regs.rflags = ~0UL;
    c.user_regs.entry_vector = 14;
    assert_int_equal(pv_set_context(&v, &c), 0);
    assert_int_equal(stack.regs.cs & 3, 3);
    assert_int_equal(stack.regs.ss & 3, 3);
    assert_int_equal(stack.regs.rflags & (RFLAGS_IOPL | RFLAGS_NT | RFLAGS_VM), 0);
    assert_int_equal(stack.regs.rflags & RFLAGS_IF, RFLAGS_IF);
    assert_int_equal(stack.regs.entry_vector, 0);
}

static void refused(int line)
{
    struct pv_vcpu pv_was = pv;
    struct stack_top stack_was = stack;
    int rc = pv_set_context(&v, &c);
    if (rc != -XEN_EINVAL && rc != -XEN_EPERM)
        fail_msg("line %d: %d", line, rc);
    assert_memory_equal(&pv_was, &pv, sizeof(pv));
    assert_memory_equal(&stack_was, &stack, sizeof(stack));
    assert_int_equal(l4_uses[1], 1);
    assert_int_equal(l4_uses[2], 0);
    assert_int_equal(l4_uses[3], 0);
    assert_int_equal(gdt_uses, 0);
    setup(NULL);
}
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        change;                                                                                    \
        refused(__LINE__);                                                                         \
    } while (0)

static void test_refusals(void **state)
{
    const uint64_t bad = 1UL << 63;
    REFUSED(c.flags |= 1UL << 20);
    REFUSED(c.user_regs.rip = bad);
    REFUSED(c.user_regs.rip = HV_VIRT_START);
    REFUSED(c.event_callback_eip = bad);
    REFUSED(c.failsafe_callback_eip = HV_VIRT_START);
    REFUSED(c.syscall_callback_eip = bad);
    REFUSED(c.trap_ctxt[255].address = bad);
    REFUSED(c.gdt_ents = FIRST_RESERVED_GDT_ENTRY + 1);
    REFUSED(c.gdt_ents = ~0UL);
    REFUSED(c.ldt_ents = 1UL << 32 | 1);
    REFUSED(c.fs_base = bad);
    REFUSED(c.gs_base_kernel = bad);
    REFUSED(c.gs_base_user = bad);
    REFUSED(c.debugreg[1] = HV_VIRT_START);
    REFUSED(c.debugreg[7] = 0x00020001); /* a port */
    REFUSED(c.debugreg[7] = 0x2000);     /* general detect */
    REFUSED(c.ctrlreg[3] = 0x2001);
    REFUSED(c.ctrlreg[3] = xen_pfn_to_cr3(33)); /* not a top-level table */
    REFUSED(c.ctrlreg[3] = xen_pfn_to_cr3(FRAMES));
    REFUSED(c.ctrlreg[1] = xen_pfn_to_cr3(33));
    REFUSED(refuse_gdt = true);
    REFUSED(c.flags &= ~(unsigned long)VGCF_in_kernel; c.ctrlreg[1] = 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_set_and_get, setup),
        cmocka_unit_test_setup(test_privilege, setup),
        cmocka_unit_test_setup(test_refusals, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
