/*
 * Assembly macros for the ways in and out: the frame is struct cpu_user_regs (xen/arch-x86/
 * xen-x86_64.h), the processor's own part at its upper end (APM vol. 2 section 8.9.3).
 *
 * From a guest the frame is `regs` of the vCPU's stack_top (cpu/cpu.h): TSS.rsp0 and the SYSCALL
 * stub's stack point at REGS_es. In the hypervisor the same frame lies on the current stack. Either
 * way the frame's address is 8 modulo 16, so a further 8 bytes make the stack fit for a call.
 *
 * A SYSCALL entry builds the frame itself, from %rsp at REGS_es:
 *     push ss; push guest's rsp; push r11 (rflags); push cs; push rcx (rip);
 *     push 0; movl vector to 4(%rsp); SAVE_GPRS; work with rsp - 8; call vcpu_leave; jmp guest_return
 * SFMASK has cleared what ENTRY_FLAGS clears (IF, TF, DF, AC, NT), so that is not needed there.
 */
#ifndef CPU_ENTRY_H
#define CPU_ENTRY_H

#define REGS_r15    0
#define REGS_r14    8
#define REGS_r13    16
#define REGS_r12    24
#define REGS_rbp    32
#define REGS_rbx    40
#define REGS_r11    48
#define REGS_r10    56
#define REGS_r9     64
#define REGS_r8     72
#define REGS_rax    80
#define REGS_rcx    88
#define REGS_rdx    96
#define REGS_rsi    104
#define REGS_rdi    112
#define REGS_error  120 /* 32 bits */
#define REGS_vector 124 /* 32 bits */
#define REGS_rip    128
#define REGS_cs     136 /* 16 bits */
#define REGS_rflags 144
#define REGS_rsp    152
#define REGS_ss     160
#define REGS_es     168 /* end of what entries save */
#define STACK_TOP_cpu  200
#define STACK_TOP_vcpu 208
#define STACK_TOP_size 216
#define STACK_SIZE_ASM 8192

#ifdef __ASSEMBLY__

/* From %rsp = &frame.error_code to %rsp = &frame. Changes no register. */
.macro SAVE_GPRS
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
.endm

/* The reverse: %rsp = &frame.error_code afterwards. */
.macro RESTORE_GPRS
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
.endm

/*
 * What gates leave as the interrupted code had it: DF, and AC, which under SMAP would open guest
 * memory (APM vol. 2 section 5.6.6). CLAC is #UD without SMAP.
 */
.macro ENTRY_FLAGS
    cld
    cmpb $0, cpu_smap_enabled(%rip)
    je .Lno_smap\@
    clac
.Lno_smap\@:
.endm

/* %reg = &stack_top()->regs of the stack that %rsp is on. */
.macro STACK_TOP reg
    mov %rsp, \reg
    or $(STACK_SIZE_ASM - 1), \reg
    sub $(STACK_TOP_size - 1), \reg
.endm

/* A fault at \from continues at \to (extable_find(), cpu/trap.c). */
.macro EXTABLE from, to
    .pushsection .extable, "a"
    .quad \from, \to
    .popsection
.endm

#endif
#endif
