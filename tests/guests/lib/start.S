/*
 * Where a test kernel begins, and its doors: the ELF notes that the domain builder reads
 * (xen/elfnote.h), the hypercall page, the entry of each exception and callback, and the ways
 * into user mode and out of a function that trapped.
 *
 * Every entry builds one struct regs (trap.h) whose upper part is what the iret hypercall takes.
 */
#define __ASSEMBLY__
#include <xen/elfnote.h>
#include <xen/xen.h>
#include "layout.h"
#include "note.h"

note XEN_ELFNOTE_GUEST_OS, .asciz "trilby-test"
note XEN_ELFNOTE_GUEST_VERSION, .asciz "1"
note XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
note XEN_ELFNOTE_LOADER, .asciz "generic"
note XEN_ELFNOTE_VIRT_BASE, .quad VIRT_BASE
note XEN_ELFNOTE_PADDR_OFFSET, .quad 0
note XEN_ELFNOTE_ENTRY, .quad guest_start
note XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
note XEN_ELFNOTE_FEATURES, .asciz "pae_pgdir_above_4gb"
note XEN_ELFNOTE_PAE_MODE, .asciz "yes"
note XEN_ELFNOTE_L1_MFN_VALID, .quad 1, 1

    .section .text.start, "ax"
    .globl guest_start, hypercall_page
guest_start: /* rsi = start_info, rsp = a stack of the builder's, flat segments */
    cld
    mov %rsi, %rdi
    mov %rsp, %rsi
    lea cpu0_stack + STACK_SIZE(%rip), %rsp
    xor %ebp, %ebp
    call guest_main
    ud2

    .balign 4096
hypercall_page:
    .skip 4096, 0xcc

/* Frame as the hypervisor pushes it: rcx, r11, [error code], rip, cs, rflags, rsp, ss. */
.macro entry name, number, has_error=0
    .globl \name
\name:
    pop %rcx
    pop %r11
    .if \has_error == 0
    push $0
    .endif
    push %rcx
    push %r11
    push %rax
    push $\number
    jmp trap_common
.endm

    .text
    .set vector, 0
    .irp has_error, 0,0,0,0,0,0,0,0,1,0,1,1,1,1,1,0,0,1,0,0,0,1,0,0,0,0,0,0,0,1,1,0
    .altmacro
    .macro numbered n, e
    entry trap_entry_\n, \n, \e
    .endm
    numbered %vector, \has_error
    .noaltmacro
    .purgem numbered
    .set vector, vector + 1
    .endr
    /* Software interrupts that tests register. */
    .globl trap_entry_soft
    .balign SOFT_SIZE
trap_entry_soft: /* 8 vectors from 32, SOFT_SIZE bytes each */
    .set vector, 32
    .rept SOFT_VECTORS
    .balign SOFT_SIZE
    pop %rcx
    pop %r11
    push $0
    push %rcx
    push %r11
    push %rax
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
entry entry_event, ENTRY_EVENT
entry entry_syscall, ENTRY_SYSCALL
entry entry_syscall32, ENTRY_SYSCALL32
entry entry_sysenter, ENTRY_SYSENTER
entry entry_nmi, ENTRY_NMI

    .globl entry_failsafe
entry_failsafe: /* rcx, r11, ds, es, fs, gs, rip, ... */
    pop %rcx
    pop %r11
    add $32, %rsp
    push $0
    push %rcx
    push %r11
    push %rax
    push $ENTRY_FAILSAFE

trap_common:
    push %rdi
    push %rsi
    push %rdx
    push %r8
    push %r9
    push %r10
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call trap_dispatch
    mov %rbp, %rsp
    movq $0, 128(%rsp) /* the error code's place becomes iret_context.flags */
trap_return: /* rsp = a struct regs to go on with */
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r10
    pop %r9
    pop %r8
    pop %rdx
    pop %rsi
    pop %rdi
    add $8, %rsp
    pop %rax
    pop %r11
    pop %rcx
    /* rsp = iret_context.flags; the page's stub pushes rcx, r11, rax below it. */
    jmp hypercall_page + __HYPERVISOR_iret * 32

/* void regs_load(struct regs *): goes on there with regs->error as VGCF_ flags; no return. */
    .globl regs_load
regs_load:
    mov %rdi, %rsp
    jmp trap_return

/*
 * long context_save(struct context *): 0 now, and again with @value after context_load().
 * rbx, rbp, r12-r15, rsp and the return address.
 */
    .globl context_save, context_load
context_save:
    mov %rbx, 0(%rdi)
    mov %rbp, 8(%rdi)
    mov %r12, 16(%rdi)
    mov %r13, 24(%rdi)
    mov %r14, 32(%rdi)
    mov %r15, 40(%rdi)
    lea 8(%rsp), %rax
    mov %rax, 48(%rdi)
    mov (%rsp), %rax
    mov %rax, 56(%rdi)
    xor %eax, %eax
    ret
context_load: /* (struct context *, long value) */
    mov %rsi, %rax
    mov 0(%rdi), %rbx
    mov 8(%rdi), %rbp
    mov 16(%rdi), %r12
    mov 24(%rdi), %r13
    mov 32(%rdi), %r14
    mov 40(%rdi), %r15
    mov 48(%rdi), %rsp
    jmp *56(%rdi)

/* First code of a second vCPU: rsp = top of its stack. */
    .globl cpu_start
cpu_start:
    cld
    xor %ebp, %ebp
    call cpu_main
    ud2

    .section .note.GNU-stack, "", @progbits
