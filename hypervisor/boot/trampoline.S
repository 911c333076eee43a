/*
 * How a secondary CPU comes up: a start-up IPI makes it run the page below 1 MiB into which smp.c
 * copies smp_trampoline..smp_trampoline_end, in real mode with CS = the page and IP = 0 (Intel SDM
 * vol. 3 section 9.4.3). It goes straight from real to long mode on the early page tables
 * (entry.S), on to its place in the image, and there to the final tables and the stack that smp.c
 * has laid out. One CPU at a time; taking the stack pointer is what makes the slot used, so a CPU
 * that comes late finds none and sleeps.
 */
#include "mm/layout.h"

#define IN_PAGE(sym) (sym - smp_trampoline)

    .section .init.data, "aw", @progbits
    .balign 16
    .globl smp_trampoline, smp_trampoline_end, smp_trampoline_efer, smp_trampoline_far
    .globl smp_trampoline_gdtr, smp_trampoline_long, smp_trampoline_gdt
    .code16
smp_trampoline:
    cli
    movw %cs, %ax
    movw %ax, %ds
    movl $0x20, %eax /* PAE */
    movl %eax, %cr4
    movl IN_PAGE(trampoline_cr3), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl IN_PAGE(smp_trampoline_efer), %eax
    wrmsr
    lgdtl IN_PAGE(smp_trampoline_gdtr)
    movl $0x80010033, %eax /* PG, WP, NE, ET, MP, PE: long mode at once */
    movl %eax, %cr0
    ljmpl *IN_PAGE(smp_trampoline_far)

    .code64
smp_trampoline_long:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movq trampoline_entry(%rip), %rax
    jmp *%rax

    .balign 8
smp_trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 64-bit code */
smp_trampoline_gdtr:
    .word 15
    .long 0 /* filled in by smp.c: address of the copy of smp_trampoline_gdt */
    .balign 8
smp_trampoline_far:
    .long 0 /* filled in: address of the copy of smp_trampoline_long */
    .word 8
    .balign 8
trampoline_cr3:
    .quad early_l4 - IMAGE_VIRT
smp_trampoline_efer:
    .quad 0 /* filled in: bits to add to EFER */
trampoline_entry:
    .quad smp_entry
smp_trampoline_end:

    .text
smp_entry:
    movq host_l4_mfn(%rip), %rax
    shlq $12, %rax
    movq %rax, %cr3
    xorl %eax, %eax
    xchgq %rax, smp_next_stack(%rip)
    testq %rax, %rax
    jz late
    movq %rax, %rsp
    xorl %ebp, %ebp
    call smp_secondary
late:
    cli
    hlt
    jmp late

    .section .note.GNU-stack, "", @progbits
