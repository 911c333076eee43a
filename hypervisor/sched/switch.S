/*
 * From one hypervisor stack to another (sched/sched.c; AMD64 ABI: rbx, rbp, r12-r15 survive calls).
 * What a stack was doing is on it; only where it was left is kept apart, in saved_rsp.
 */
    .text

/* void stack_switch(uint64_t *save_rsp, uint64_t load_rsp) */
    .globl stack_switch
    .hidden stack_switch
    .type stack_switch, @function
stack_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
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
