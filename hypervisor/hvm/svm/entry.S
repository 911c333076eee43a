/*
 * Into a guest and back (APM vol. 2 section 15.5).
 *
 * With the global interrupt flag clear nothing can come between the two worlds; RFLAGS.IF is set
 * then, so that a real interrupt stops the guest (V_INTR_MASKING) and waits for us behind STGI.
 * VMRUN keeps the host's rsp and rax in the host save area; what else it does not keep, VMLOAD and
 * VMSAVE do: the task register above all, without which we have no stacks for NMI and #MC.
 */
#include "cpu/entry.h"

    .text

/* void svm_vmrun(struct cpu_user_regs *regs, uint64_t vmcb, uint64_t host) */
    .globl svm_vmrun
    .hidden svm_vmrun
    .type svm_vmrun, @function
svm_vmrun:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdx
    push %rdi

    clgi
    sti
    mov %rsi, %rax
    vmload %rax
    mov REGS_r15(%rdi), %r15
    mov REGS_r14(%rdi), %r14
    mov REGS_r13(%rdi), %r13
    mov REGS_r12(%rdi), %r12
    mov REGS_rbp(%rdi), %rbp
    mov REGS_rbx(%rdi), %rbx
    mov REGS_r11(%rdi), %r11
    mov REGS_r10(%rdi), %r10
    mov REGS_r9(%rdi), %r9
    mov REGS_r8(%rdi), %r8
    mov REGS_rcx(%rdi), %rcx
    mov REGS_rdx(%rdi), %rdx
    mov REGS_rsi(%rdi), %rsi
    mov REGS_rdi(%rdi), %rdi
    vmrun %rax
    vmsave %rax
    push %rdi
    mov 8(%rsp), %rdi
    mov %r15, REGS_r15(%rdi)
    mov %r14, REGS_r14(%rdi)
    mov %r13, REGS_r13(%rdi)
    mov %r12, REGS_r12(%rdi)
    mov %rbp, REGS_rbp(%rdi)
    mov %rbx, REGS_rbx(%rdi)
    mov %r11, REGS_r11(%rdi)
    mov %r10, REGS_r10(%rdi)
    mov %r9, REGS_r9(%rdi)
    mov %r8, REGS_r8(%rdi)
    mov %rcx, REGS_rcx(%rdi)
    mov %rdx, REGS_rdx(%rdi)
    mov %rsi, REGS_rsi(%rdi)
    pop REGS_rdi(%rdi)
    mov 8(%rsp), %rax
    vmload %rax
    cli
    stgi

    add $16, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size svm_vmrun, . - svm_vmrun

    .section .note.GNU-stack, "", @progbits
