/*
 * From the loader to C.
 *
 * Multiboot 1 and 2 enter entry32 in 32-bit protected mode, flat segments, paging and interrupts
 * off, EAX = the protocol's magic, EBX = physical address of its information (Multiboot
 * Specification 0.6.96 section 3.2; Multiboot2 2.0 section 3.3). The image lies at IMAGE_PHYS, its
 * symbols are at IMAGE_VIRT: here each is written minus IMAGE_VIRT until paging is on.
 *
 * The early page tables map the low 4 GiB by 2 MiB pages three times: identity (slot 0), where the
 * image runs, and where the direct map will be, so that maddr_to_virt() works for them at once.
 * They live in the init part: mm_init() replaces them, secondary CPUs pass through them
 * (trampoline.S), and they are given back with it.
 */
#include "mm/layout.h"

#define PHYS(sym) (sym - IMAGE_VIRT)
#define SLOT(va)  (((va) >> 39) & 511)

#define PTE_TABLE 0x03 /* present, writable */
#define PTE_LARGE 0x83

#define STACK_SIZE 8192

    .globl layout_image_virt, layout_image_phys, entry_physical
    .set layout_image_virt, IMAGE_VIRT
    .set layout_image_phys, IMAGE_PHYS

    .section .multiboot, "ax", @progbits
    .balign 8
    .globl multiboot_header
multiboot_header:
    /* Flags: modules on pages, memory map wanted, the address fields below are to be used. */
#define MB1_FLAGS 0x00010003
    .long 0x1badb002
    .long MB1_FLAGS
    .long -(0x1badb002 + MB1_FLAGS)
    .long PHYS(multiboot_header)
    .long PHYS(__image_start)
    .long PHYS(__data_end)
    .long PHYS(__bss_end)
    .long PHYS(entry32)

    .balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0 /* i386, 32-bit protected mode */
    .long multiboot2_end - multiboot2_header
    .long -(0xe85250d6 + multiboot2_end - multiboot2_header)

    .balign 8 /* information request: memory map; the others are taken if there */
    .word 1, 0
    .long 12
    .long 6
    .balign 8 /* address */
    .word 2, 0
    .long 24
    .long PHYS(multiboot2_header)
    .long PHYS(__image_start)
    .long PHYS(__data_end)
    .long PHYS(__bss_end)
    .balign 8 /* entry address */
    .word 3, 0
    .long 12
    .long PHYS(entry32)
    .balign 8 /* console flags, optional: EGA text is understood */
    .word 4, 1
    .long 12
    .long 2
    .balign 8 /* framebuffer, optional: any size and depth will do */
    .word 5, 1
    .long 20
    .long 0, 0, 0
    .balign 8 /* modules on page boundaries */
    .word 6, 0
    .long 8
    .balign 8 /* end */
    .word 0, 0
    .long 8
multiboot2_end:

    .set entry_physical, PHYS(entry32)

    .code32
    .globl entry32
entry32:
    cli
    cld
    movl %eax, %edi /* first and second argument of boot_start(), kept from here on */
    movl %ebx, %esi
    movl $PHYS(boot_stack) + STACK_SIZE, %esp

    /* Long mode? (APM vol. 3 appendix E.4: leaf 0x80000001 EDX bit 29; NX is bit 20.) */
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc no_long_mode
    movl %edx, %ebp

    /* One directory pointer table for all three places, four directories of 2 MiB pages. */
    movl $PHYS(early_pdpt) + PTE_TABLE, %eax
    movl %eax, PHYS(early_l4) + 8 * SLOT(0)
    movl %eax, PHYS(early_l4) + 8 * SLOT(IMAGE_VIRT)
    movl %eax, PHYS(early_l4) + 8 * SLOT(DIRECT_VIRT)
    movl $PHYS(early_pd) + PTE_TABLE, %eax
    xorl %ecx, %ecx
1:  movl %eax, PHYS(early_pdpt)(, %ecx, 8)
    addl $4096, %eax
    incl %ecx
    cmpl $4, %ecx
    jne 1b
    movl $PTE_LARGE, %eax
    xorl %ecx, %ecx
1:  movl %eax, PHYS(early_pd)(, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $4 * 512, %ecx
    jne 1b

    /* CR4: PAE; OSFXSR and OSXMMEXCPT, since the decompressors use SSE. */
    movl %cr4, %eax
    orl $0x620, %eax
    movl %eax, %cr4
    movl $PHYS(early_l4), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx /* EFER: LME, and NXE where there is NX */
    rdmsr
    orl $0x100, %eax
    btl $20, %ebp
    jnc 1f
    orl $0x800, %eax
1:  wrmsr
    movl %cr0, %eax
    andl $~0x0000000c, %eax /* EM, TS off */
    orl $0x80010023, %eax   /* PG, WP, NE, MP, PE */
    movl %eax, %cr0
    lgdtl PHYS(early_gdtr)
    ljmpl $8, $PHYS(entry64)

/* Said on the first serial line and on the screen; there is nothing to fall back to. */
no_long_mode:
    movl $PHYS(no_long_mode_text), %ebx
    movl $0xb8000, %ebp
1:  movb (%ebx), %al
    testb %al, %al
    jz 2f
    movw $0x3f8, %dx
    outb %al, %dx
    movb $0x07, %ah
    movw %ax, (%ebp)
    addl $2, %ebp
    incl %ebx
    movl $100000, %ecx /* the line's FIFO is small */
    loop .
    jmp 1b
2:  hlt
    jmp 2b
no_long_mode_text:
    .asciz "Trilby: this processor has no 64-bit mode\r\n"

    .code64
entry64:
    movabsq $1f, %rax
    jmp *%rax
1:  xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss

    /* struct stack_top (cpu/cpu.h): the CPU and vCPU pointers are the last 16 bytes. */
    leaq boot_stack + STACK_SIZE(%rip), %rsp
    leaq boot_cpu(%rip), %rax
    movq %rax, -16(%rsp)
    movq $0, -8(%rsp)
    subq $240, %rsp /* sizeof(struct stack_top), kept 16-byte aligned */
    pushq $0        /* ends the frame pointer chain: return address, frame */
    pushq $0
    xorl %ebp, %ebp
    movl %edi, %edi
    movl %esi, %esi
    pushq $0
    jmp boot_start

    .section .init.data, "aw", @progbits
    .balign 8
early_gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 64-bit code */
    .quad 0x00cf93000000ffff
early_gdtr:
    .word . - early_gdt - 1
    .quad PHYS(early_gdt)

    .balign 4096
    .globl early_l4
early_l4:
    .skip 4096
early_pdpt:
    .skip 4096
early_pd:
    .skip 4 * 4096

    .section .bss.page_aligned, "aw", @nobits
    .balign STACK_SIZE
    .globl boot_stack
boot_stack:
    .skip STACK_SIZE

    .section .note.GNU-stack, "", @progbits
