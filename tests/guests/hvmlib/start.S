/*
 * Where a PVH test kernel begins: 32-bit protected mode without paging, %ebx = hvm_start_info
 * (xen/arch-x86/hvm/start_info.h). It maps the first 4 GiB one to one by 2 MiB pages, goes to long
 * mode and calls C. Then the doors: a stub for each vector, the real-mode code that a second CPU
 * starts with, context_save() and context_load().
 */
#define __ASSEMBLY__
#include <xen/elfnote.h>
#include "layout.h"

/* clang-format off */
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

#define AP_START 0x8000
#define EFER     0xc0000080
#define CR0_LONG 0x80010033 /* PG WP NE ET MP PE */
#define CR4_LONG 0x620      /* PAE, OSFXSR, OSXMMEXCPT */

    .section .text.start, "ax"
    .code32
    .globl pvh_entry
pvh_entry:
    cld
    mov %ebx, start_info_at
    mov $pd, %edi           /* 2048 entries of 2 MiB */
    mov $0x87, %eax
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    mov $cpu0_stack + STACK_SIZE, %esp
    lgdt gdt_pointer
    call to_long_mode
    ljmp $8, $2f
    .code64
2:  xor %ebp, %ebp
    call hvm_main
    ud2

    .code32
to_long_mode:
    mov $CR4_LONG, %eax
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $EFER, %ecx
    rdmsr
    or $0x900, %eax         /* LME, NXE */
    wrmsr
    mov $CR0_LONG, %eax
    mov %eax, %cr0
    ret

/* A second CPU: copied to AP_START, where a SIPI makes it begin in real mode. */
    .code16
    .globl ap_start, ap_start_end
ap_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl AP_START + ap_gdt - ap_start
    mov $0x33, %eax
    mov %eax, %cr0
    ljmpl $24, $ap_protected
    .balign 8
ap_gdt:
    .word 39
    .long gdt
ap_start_end:
    .code32
ap_protected:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov ap_stack, %esp
    call to_long_mode
    ljmp $8, $3f
    .code64
3:  xor %ebp, %ebp
    call ap_main
    ud2

/* --- vectors --- */
    .text
    .globl idt_stubs
    .balign 32
idt_stubs:
    .set vector, 0
    .rept 256
    .balign 32
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    push $0
    .endif
    push %rcx
    push %r11
    push %rax
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common: /* builds struct regs (guest.h) */
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
    add $8, %rsp
    iretq

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
context_load:
    mov %rsi, %rax
    mov 0(%rdi), %rbx
    mov 8(%rdi), %rbp
    mov 16(%rdi), %r12
    mov 24(%rdi), %r13
    mov 32(%rdi), %r14
    mov 40(%rdi), %r15
    mov 48(%rdi), %rsp
    jmp *56(%rdi)

/* --- tables --- */
    .data
    .balign 4096
    .globl pml4, pd, hypercall_page
pml4:
    .quad pdpt + 7
    .fill 511, 8, 0
pdpt:
    .quad pd + 7, pd + 0x1007, pd + 0x2007, pd + 0x3007
    .fill 508, 8, 0
pd: .skip 4 * 4096
hypercall_page:
    .skip 4096, 0xcc
    .balign 8
    .globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 8: 64-bit code */
    .quad 0x00cf93000000ffff /* 16: data */
    .quad 0x00cf9b000000ffff /* 24: 32-bit code */
    .quad 0
gdt_pointer:
    .word 39
    .long gdt
    .globl start_info_at
start_info_at:
    .quad 0
    .section .note.GNU-stack, "", @progbits
