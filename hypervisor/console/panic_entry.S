/*
 * panic(): saves the registers as the caller had them, for the first CPU that comes here, and goes
 * on in panic_body() (panic.c) with arguments and stack untouched. Offsets are those of struct
 * cpu_user_regs (xen/arch-x86/xen-x86_64.h).
 */
    .text
    .globl panic
    .hidden panic
    .type panic, @function
panic:
    pushfq
    lock btsl $0, panic_taken(%rip)
    jc 1f
    popq panic_regs+144(%rip)
    movq %r15, panic_regs+0(%rip)
    movq %r14, panic_regs+8(%rip)
    movq %r13, panic_regs+16(%rip)
    movq %r12, panic_regs+24(%rip)
    movq %rbp, panic_regs+32(%rip)
    movq %rbx, panic_regs+40(%rip)
    movq %r11, panic_regs+48(%rip)
    movq %r10, panic_regs+56(%rip)
    movq %r9, panic_regs+64(%rip)
    movq %r8, panic_regs+72(%rip)
    movq %rax, panic_regs+80(%rip)
    movq %rcx, panic_regs+88(%rip)
    movq %rdx, panic_regs+96(%rip)
    movq %rsi, panic_regs+104(%rip)
    movq %rdi, panic_regs+112(%rip)
    movq %rsp, panic_regs+152(%rip)
    jmp panic_body
1:  addq $8, %rsp
    jmp panic_body
    .size panic, . - panic

    .section .note.GNU-stack, "", @progbits
