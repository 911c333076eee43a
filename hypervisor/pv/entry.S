/*
 * The ways in by SYSCALL. Each CPU's stub (pv/syscall_entry.c) has switched to the vCPU's stack,
 * just below regs.es, and pushed ss, rsp, rflags, cs and rip; interrupts are off and the flags that
 * matter clear (SFMASK). Here the rest of struct cpu_user_regs (cpu/cpu.h) is pushed, and C takes
 * over. What pv_syscall() returns with is final: guest_return restores it.
 */
#include "cpu/entry.h"

    .text
    .globl pv_entry_syscall
    .hidden pv_entry_syscall
    .type pv_entry_syscall, @function
pv_entry_syscall:
    push $0                 /* error_code, entry_vector: no exception */
    SAVE_GPRS
    mov %rsp, %rdi
    xor %ebp, %ebp          /* frame pointers end here */
    sub $8, %rsp            /* &regs is 8 modulo 16 */
    call pv_syscall
    jmp guest_return
    .size pv_entry_syscall, . - pv_entry_syscall
    .section .note.GNU-stack, "", @progbits
