/*
 * The ways in by interrupt and exception, and the one way out to a guest. Frames: cpu/entry.h.
 *
 * From a guest (RPL 3) the frame is the vCPU's stack_top()->regs; C handles it, vcpu_leave() makes
 * the guest's state final, guest_return restores it. In the hypervisor the frame nests on the
 * current stack and is returned from directly.
 *
 * #DB, NMI, #DF and #MC arrive on stacks of their own, for they may come where %rsp is still a
 * guest's (the first instructions of SYSCALL entries). When they interrupted a guest, the frame
 * moves to the vCPU's stack and everything goes on as for the others, so that the IST stack is free
 * again before anything else can happen.
 *
 * The IRETQ to a guest may fault, for the guest chooses selectors and addresses. That fault nests
 * over regs.r15 to regs.rdi, whose values are back in the registers by then; its handler leaves
 * vector and error code in regs and continues at iret_fixup, which saves them again.
 */
#include "cpu/entry.h"

    .text

/* --- one stub per vector, 16 bytes each --- */
    .globl idt_stubs
    .hidden idt_stubs
    .balign 16
idt_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    /* These push an error code (APM vol. 2 section 8.2): #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX */
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    push $0
    .endif
    movl $vector, 4(%rsp)
    .if vector == 1 || vector == 2 || vector == 8 || vector == 18
    jmp entry_ist
    .else
    jmp entry_common
    .endif
    .set vector, vector + 1
    .endr

    .balign 16
    .type entry_common, @function
entry_common:
    SAVE_GPRS
    ENTRY_FLAGS
    mov %rsp, %rdi
    testb $3, REGS_cs(%rsp)
    jz 1f
    xor %ebp, %ebp          /* frame pointers end here */
    sub $8, %rsp
    call cpu_entry_from_guest
    call vcpu_leave
    jmp guest_return
1:  sub $8, %rsp
    call cpu_entry_from_hypervisor
entry_return:
    add $8, %rsp
    RESTORE_GPRS
    add $8, %rsp
    iretq
    .size entry_common, . - entry_common

    .type entry_ist, @function
entry_ist:
    SAVE_GPRS
    ENTRY_FLAGS
    mov %rsp, %rdi
    sub $8, %rsp
    call cpu_entry_ist      /* the frame on the vCPU's stack, or NULL when all is done */
    test %rax, %rax
    jz entry_return
    lea -8(%rax), %rsp
    mov %rax, %rdi
    xor %ebp, %ebp
    call cpu_entry_from_guest
    /* NMIs stay blocked until an IRETQ, and another vCPU may go on by SYSRET: so here is one. */
    mov %rsp, %rax
    push $0
    push %rax
    pushf
    push $HV_CS
    lea 1f(%rip), %rax
    push %rax
    iretq
1:  call vcpu_leave
    jmp guest_return
    .size entry_ist, . - entry_ist

/* --- out --- */
    .globl guest_return
    .hidden guest_return
    .type guest_return, @function
    .balign 16
guest_return:
    STACK_TOP %rax
    mov %rax, %rsp
    RESTORE_GPRS
    add $8, %rsp
.Lguest_iret:
    iretq
    EXTABLE .Lguest_iret, iret_fixup
    .size guest_return, . - guest_return

    .globl iret_fixup
    .hidden iret_fixup
    .type iret_fixup, @function
iret_fixup:
    sub $8, %rsp            /* vector and error code: cpu_entry_from_hypervisor() put them there */
    SAVE_GPRS
    mov %rsp, %rdi
    xor %ebp, %ebp
    sub $8, %rsp
    call cpu_iret_faulted
    call vcpu_leave
    jmp guest_return
    .size iret_fixup, . - iret_fixup

    .section .note.GNU-stack, "", @progbits
