/*
 * The ways in by SYSCALL. Each CPU's stub (pv/syscall_entry.c) has switched to the vCPU's stack,
 * just below regs.es, and pushed ss, rsp, rflags, cs and rip; interrupts are off and the flags that
 * matter clear (SFMASK). Here the rest of struct cpu_user_regs (cpu/cpu.h) is pushed, and C takes
 * over. What pv_syscall() returns with is final.
 *
 * SYSRET leads back as long as nobody asked for more than it can do (VECTOR_SYSCALL, cpu/entry.h).
 * Two things it never may: go to an address that is not canonical, for which Intel's CPUs fault
 * with the guest's stack pointer in ring 0 (SDM vol. 2, SYSRET), or load RF or TF, for it ignores
 * the one and would trap before the guest's next instruction with the other.
 */
#include "cpu/entry.h"

    .text
    .globl pv_entry_syscall
    .hidden pv_entry_syscall
    .type pv_entry_syscall, @function
pv_entry_syscall:
    push $VECTOR_SYSCALL    /* entry_vector; error_code, which means nothing */
    SAVE_GPRS
    mov %rsp, %rdi
    sub $8, %rsp            /* &regs is 8 modulo 16 */
    call pv_syscall
    add $8, %rsp
    cmpl $VECTOR_SYSCALL, REGS_vector(%rsp)
    jne guest_return
    testl $(RFLAGS_TF | RFLAGS_RF), REGS_rflags(%rsp)
    jnz guest_return
    mov REGS_rip(%rsp), %rcx
    mov %rcx, %rax
    sar $47, %rax
    inc %eax                /* bits 63..47 alike: 0 or 1 */
    cmp $1, %eax
    ja guest_return
    /* The stack is still the one that was entered on; C has kept rbx, rbp and r12 to r15. */
    mov REGS_r10(%rsp), %r10
    mov REGS_r9(%rsp), %r9
    mov REGS_r8(%rsp), %r8
    mov REGS_rax(%rsp), %rax
    mov REGS_rdx(%rsp), %rdx
    mov REGS_rsi(%rsp), %rsi
    mov REGS_rdi(%rsp), %rdi
    mov REGS_rflags(%rsp), %r11
    mov REGS_rsp(%rsp), %rsp
    sysretq
    .size pv_entry_syscall, . - pv_entry_syscall
    .section .note.GNU-stack, "", @progbits
