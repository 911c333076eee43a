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
    PUSH_CALLEE_SAVED
    push %rdx
    push %rdi

    clgi
    sti
    mov %rsi, %rax
    vmload %rax
    LOAD_GUEST_GPRS
    mov REGS_rdi(%rdi), %rdi
    vmrun %rax
    vmsave %rax
    push %rdi
    mov 8(%rsp), %rdi
    STORE_GUEST_GPRS
    pop REGS_rdi(%rdi)
    mov 8(%rsp), %rax
    vmload %rax
    cli
    stgi

    add $16, %rsp
    POP_CALLEE_SAVED
    ret
    .size svm_vmrun, . - svm_vmrun

    .section .note.GNU-stack, "", @progbits
