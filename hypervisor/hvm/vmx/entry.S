/*
 * Into a guest and back (SDM vol. 3, chapters on VM entries and VM exits).
 *
 * The CPU switches what is in the VMCS, rsp, rip and rflags among it; the general registers are
 * ours. Interrupts are off on both sides: a real one stops the guest whatever its own flag says and
 * waits for us.
 */
#include "cpu/entry.h"

#define VMCS_HOST_RSP 0x6c14

    .text

/* bool vmx_run(struct cpu_user_regs *regs, bool launched) */
    .globl vmx_run
    .hidden vmx_run
    .type vmx_run, @function
vmx_run:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi

    mov $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
    test %sil, %sil
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
    mov REGS_rax(%rdi), %rax
    mov REGS_rcx(%rdi), %rcx
    mov REGS_rdx(%rdi), %rdx
    mov REGS_rsi(%rdi), %rsi
    mov REGS_rdi(%rdi), %rdi
    jz 1f
    vmresume
    jmp 2f
1:  vmlaunch
2:  xor %eax, %eax          /* still here: refused, and nothing has changed */
    jmp 3f

    .globl vmx_landing
    .hidden vmx_landing
vmx_landing:
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
    mov %rax, REGS_rax(%rdi)
    mov %rcx, REGS_rcx(%rdi)
    mov %rdx, REGS_rdx(%rdi)
    mov %rsi, REGS_rsi(%rdi)
    pop REGS_rdi(%rdi)
    mov $1, %eax

3:  add $8, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size vmx_run, . - vmx_run

    .section .note.GNU-stack, "", @progbits
