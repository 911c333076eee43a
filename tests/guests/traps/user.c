/*
 * User mode: into it by the iret hypercall, out of it by syscall, int n and faults; registers
 * whole, error codes and cr2 as user mode's, page tables apart, hostile targets of iret survived.
 */
#include "guest.h"
#include "traps.h"
#include <xen/callback.h>

/* User code: each snippet ends in a system call. */
extern char u_syscall[], u_syscall_end[], u_read[], u_write[], u_ud2[], u_int3[], u_int80[],
    u_int21[], u_hlt[], u_cli[], u_jump[], u_flags[], u_flags_end[], u_stack[];
asm(".text\n"
    "u_syscall: syscall\nu_syscall_end: syscall\n"
    "u_read: movq (%rdi), %rax; syscall\n"
    "u_write: movq %rax, (%rdi); syscall\n"
    "u_ud2: ud2\n"
    "u_int3: int3; syscall\n"
    "u_int80: int $0x80; syscall\n"
    "u_int21: int $0x21; syscall\n"
    "u_hlt: hlt; syscall\n"
    "u_cli: cli; syscall\n"
    "u_jump: jmp *%rdi\n"
    "u_flags: pushf; pop %rax; syscall\nu_flags_end:\n"
    "u_stack: xor %rsp, %rsp; ud2\n");

#define KERNEL_ONLY 0x0000500000000000UL /* slot 160 of the kernel's page table alone */
#define USER_ONLY   0x0000510000000000UL

static void fill(struct regs *r)
{
    r->rax = 0x1111111111111111;
    r->rbx = 0x2222222222222222;
    r->rcx = 0x3333333333333333;
    r->rdx = 0x4444444444444444;
    r->rsi = 0x5555555555555555;
    r->rdi = 0x6666666666666666;
    r->rbp = 0x7777777777777777;
    r->r8 = 0x8888888888888888;
    r->r9 = 0x9999999999999999;
    r->r10 = 0xaaaaaaaaaaaaaaaa;
    r->r11 = 0xbbbbbbbbbbbbbbbb;
    r->r12 = 0xcccccccccccccccc;
    r->r13 = 0xdddddddddddddddd;
    r->r14 = 0xeeeeeeeeeeeeeeee;
    r->r15 = 0xffffffffffffffff;
}

/* Everything but rcx, r11, rip and what a test compares itself. */
static void check_same(const struct regs *got, const struct regs *want)
{
    CHECK_EQ(got->rax, want->rax);
    CHECK_EQ(got->rbx, want->rbx);
    CHECK_EQ(got->rdx, want->rdx);
    CHECK_EQ(got->rsi, want->rsi);
    CHECK_EQ(got->rdi, want->rdi);
    CHECK_EQ(got->rbp, want->rbp);
    CHECK_EQ(got->r8, want->r8);
    CHECK_EQ(got->r9, want->r9);
    CHECK_EQ(got->r10, want->r10);
    CHECK_EQ(got->r12, want->r12);
    CHECK_EQ(got->r13, want->r13);
    CHECK_EQ(got->r14, want->r14);
    CHECK_EQ(got->r15, want->r15);
    CHECK_EQ(got->rsp, want->rsp);
}

static void system_calls(void)
{
    struct regs r, before;

    section("system calls of user mode");
    user_regs(&r, u_syscall);
    fill(&r);
    before = r;
    user_run(&r, 0);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    check_same(&r, &before);
    CHECK_EQ(r.rip, u_syscall_end);
    CHECK_EQ(r.cs & 0xffff, FLAT_USER_CS64);
    CHECK_EQ(r.ss, FLAT_USER_SS);
    CHECK_EQ(r.rflags & 0x200, 0x200);
    /* Back by the system call's way: rcx and r11 become rip and rflags. */
    r.rip = (uint64_t)u_ud2;
    fill(&r);
    before = r;
    user_run(&r, VGCF_in_syscall);
    CHECK_EQ(r.vector, T_UD);
    check_same(&r, &before);
    CHECK_EQ(r.rip, u_ud2);
    CHECK_EQ(r.rcx, u_ud2);
    CHECK_EQ(r.r11 & ~0x10000UL, r.rflags & ~0x10000UL);
    /* And by iret: all registers, rcx and r11 too. */
    user_regs(&r, u_ud2);
    fill(&r);
    before = r;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_UD);
    check_same(&r, &before);
    CHECK_EQ(r.rcx, before.rcx);
    CHECK_EQ(r.r11, before.r11);
    /* User mode runs with interrupts enabled whatever it asks, and never with IOPL. */
    user_regs(&r, u_flags);
    r.rflags = 0x3002;
    user_run(&r, 0);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    CHECK_EQ(r.rip, u_flags_end);
    CHECK_EQ(r.rax & 0x3200, 0x200);
}

static void mask_by_callback(void)
{
    struct callback_register cb = {.type = CALLBACKTYPE_syscall,
                                   .flags = CALLBACKF_mask_events,
                                   .address = (uint64_t)entry_syscall};
    struct regs r;

    section("event mask on system calls");
    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), 0);
    user_regs(&r, u_syscall);
    user_run(&r, 0);
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_mask, 1);
    CHECK_EQ(r.rflags & 0x200, 0x200);
    cb.flags = 0;
    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), 0);
    user_regs(&r, u_syscall);
    user_run(&r, 0);
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_mask, 0);
    events_off();
    user_regs(&r, u_syscall);
    r.rflags = 0x2; /* IF clear: the mask stays set through iret */
    user_run(&r, 0);
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_mask, 1);
    CHECK_EQ(r.rflags & 0x200, 0);
    events_off();
}

static void traps_of_user(void)
{
    struct regs r;

    section("traps of user mode");
    user_regs(&r, u_ud2);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_UD);
    CHECK_EQ(r.cs & 3, 3);
    CHECK_EQ(r.rip, u_ud2);
    user_regs(&r, u_int3);
    trap_set_hook(T_BP, NULL);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_BP);
    CHECK_EQ(r.rip, u_int3 + 1);
    trap_set_hook(0x80, NULL);
    user_regs(&r, u_int80);
    user_run(&r, 0);
    CHECK_EQ(r.vector, 0x80);
    CHECK_EQ(r.rip, u_int80 + 2);
    /* Gates of level 1 are the kernel's. */
    trap_set_hook(0x21, NULL);
    trap_set_hook(0x42, NULL);
    user_regs(&r, u_int21);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_GP);
    CHECK_EQ(r.rip, u_int21);
    CHECK_IN(r.error, 0x21 * 8 + 2, 0x21 * 16 + 2);
    user_regs(&r, u_hlt);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_GP);
    CHECK_EQ(r.error, 0);
    CHECK_EQ(r.rip, u_hlt);
    user_regs(&r, u_cli);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_GP);
    CHECK_EQ(r.rip, u_cli);
    /* A broken user stack is nothing to a bounce: it goes onto the kernel's. */
    user_regs(&r, u_stack);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_UD);
    CHECK_EQ(r.rsp, 0);
}

static void page_faults_of_user(void)
{
    struct cpu *cpu = this_cpu();
    struct regs r;
    uint64_t *page = page_alloc(), v;

    section("page faults of user mode, and its own page table");
    user_regs(&r, u_read);
    r.rdi = BAD_UNMAPPED;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
    CHECK_EQ(r.error, PF_U);
    CHECK_EQ(cpu->trap.cr2, BAD_UNMAPPED);
    user_regs(&r, u_write);
    r.rdi = BAD_UNMAPPED + 8;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
    CHECK_EQ(r.error, PF_U | PF_W);
    CHECK_EQ(cpu->trap.cr2, BAD_UNMAPPED + 8);
    user_regs(&r, u_read);
    r.rdi = BAD_HYPERVISOR;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
    CHECK_EQ(r.error & ~1UL, PF_U);

    page[0] = 0x1234;
    CHECK_EQ(map_at(KERNEL_ONLY, MAKE_PTE(mfn_of(page), PTE_KERN)), 0);
    CHECK(try_read((void *)KERNEL_ONLY, &v));
    CHECK_EQ(v, 0x1234);
    user_regs(&r, u_read);
    r.rdi = KERNEL_ONLY;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
    CHECK_EQ(r.error, PF_U);
    CHECK_EQ(cpu->trap.cr2, KERNEL_ONLY);
    /* The same level 3 table in the user's slot: now user mode sees it and the kernel does not. */
    CHECK_EQ(
        mmu_set((mfn_of(user_l4) << 12) + (USER_ONLY >> 39) * 8, *pt_entry((void *)KERNEL_ONLY, 4)),
        0);
    user_regs(&r, u_read);
    r.rdi = USER_ONLY;
    user_run(&r, 0);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    CHECK_EQ(r.rax, 0x1234);
    CHECK(!try_read((void *)USER_ONLY, &v));
    CHECK(try_read((void *)KERNEL_ONLY, &v));
    CHECK_EQ(mmu_set((mfn_of(user_l4) << 12) + (USER_ONLY >> 39) * 8, 0), 0);
    user_regs(&r, u_read);
    r.rdi = USER_ONLY;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
    /* Without m2p_strict the table of frames is not there for user mode. */
    user_regs(&r, u_read);
    r.rdi = MACH2PHYS_VIRT_START;
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
}

static void hostile_iret(void)
{
    struct regs r;

    section("iret to where no one should go");
    /* Non-canonical rip: the fault is the guest's, by #GP or by the failsafe callback. */
    user_regs(&r, (void *)BAD_NONCANONICAL);
    user_run(&r, 0);
    print("  non-canonical rip: vector %lu error 0x%lx rip 0x%lx\n", r.vector, r.error, r.rip);
    CHECK_IN(r.vector, ENTRY_FAILSAFE, T_GP);
    user_regs(&r, (void *)BAD_NONCANONICAL);
    user_run(&r, VGCF_in_syscall);
    print("  by sysret: vector %lu error 0x%lx rip 0x%lx\n", r.vector, r.error, r.rip);
    CHECK_IN(r.vector, ENTRY_FAILSAFE, T_GP);
    user_regs(&r, (void *)BAD_HYPERVISOR);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_PF);
    CHECK_EQ(r.rip, BAD_HYPERVISOR);
    CHECK_EQ(r.error & ~(PF_I | 1UL), PF_U);
    user_regs(&r, u_syscall);
    r.ss = 0x1233;
    user_run(&r, 0);
    print("  bad ss: vector %lu error 0x%lx ss 0x%lx\n", r.vector, r.error, r.ss);
    CHECK(r.vector == ENTRY_FAILSAFE || r.vector == T_GP || r.vector == ENTRY_SYSCALL);
    user_regs(&r, u_syscall);
    r.cs = 0x1233;
    user_run(&r, 0);
    print("  bad cs: vector %lu error 0x%lx cs 0x%lx\n", r.vector, r.error, r.cs);
    CHECK(r.vector == ENTRY_FAILSAFE || r.vector == T_GP);
    user_regs(&r, u_syscall);
    r.cs = 0xe008 | 3; /* where a hypervisor might keep its own code segment */
    user_run(&r, 0);
    CHECK(r.vector == ENTRY_FAILSAFE || r.vector == T_GP);
    user_regs(&r, u_flags);
    r.rflags = ~0UL & ~0x100UL & ~0x20000UL;
    user_run(&r, 0);
    print("  all flags: vector %lu error 0x%lx rax 0x%lx\n", r.vector, r.error, r.rax);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    CHECK_EQ(r.rax & 0x3000, 0);
    CHECK_EQ(r.rax >> 22, 0);
}

void user_mode(void)
{
    user_setup();
    system_calls();
    mask_by_callback();
    traps_of_user();
    page_faults_of_user();
    hostile_iret();
}
