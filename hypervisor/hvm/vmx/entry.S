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
    PUSH_CALLEE_SAVED
    push %rdi

    mov $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
    test %sil, %sil
    LOAD_GUEST_GPRS
    mov REGS_rax(%rdi), %rax
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
    STORE_GUEST_GPRS
    mov %rax, REGS_rax(%rdi)
    pop REGS_rdi(%rdi)
    mov $1, %eax

3:  add $8, %rsp
    POP_CALLEE_SAVED
    ret
    .size vmx_run, . - vmx_run

    .section .note.GNU-stack, "", @progbits
