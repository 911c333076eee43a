/*
 * From one hypervisor stack to another (sched/sched.c; AMD64 ABI: rbx, rbp, r12-r15 survive calls).
 * What a stack was doing is on it; only where it was left is kept apart, in saved_rsp.
 */
#include "cpu/entry.h"

    .text

/* void stack_switch(uint64_t *save_rsp, uint64_t load_rsp) */
    .globl stack_switch
    .hidden stack_switch
    .type stack_switch, @function
stack_switch:
    PUSH_CALLEE_SAVED
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    POP_CALLEE_SAVED
    ret
    .size stack_switch, . - stack_switch

/* Where a new stack begins (sched_stack_init()): rbx is its first function, rsp 16-byte aligned. */
    .globl stack_begin
    .hidden stack_begin
    .type stack_begin, @function
stack_begin:
    xor %ebp, %ebp
    call sched_switched
    call *%rbx
    jmp guest_return
    .size stack_begin, . - stack_begin

    .section .note.GNU-stack, "", @progbits
