/*
 * The smallest PV guest: says by a marker (bench/counter/counter.c) that it runs, then blocks for
 * ever. What creating it costs is what the hypervisor and the tools cost.
 */
#define __ASSEMBLY__
#include <xen/elfnote.h>
#include <xen/xen.h>
#include "note.h"

note XEN_ELFNOTE_GUEST_OS, .asciz "trilby-bench"
note XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
note XEN_ELFNOTE_LOADER, .asciz "generic"
note XEN_ELFNOTE_VIRT_BASE, .quad 0xffffffff80000000
note XEN_ELFNOTE_PADDR_OFFSET, .quad 0
note XEN_ELFNOTE_ENTRY, .quad guest_start
note XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
note XEN_ELFNOTE_PAE_MODE, .asciz "yes"

    .section .text.start, "ax"
    .globl guest_start
guest_start:
    .byte 0x0f, 0x1f, 0x80
    .long 0x54420000 + 11
    /* Not SCHEDOP_block, which takes events: nobody here would take them. */
1:  mov $29, %eax             /* __HYPERVISOR_sched_op; xen.h gives assembly the old one */
    mov $3, %edi              /* SCHEDOP_poll */
    lea no_ports(%rip), %rsi
    syscall
    jmp 1b
    .balign 8
no_ports:
    .quad 0, 0, 0             /* ports, number of ports, timeout: none */
    .balign 4096
hypercall_page:
    .skip 4096, 0xcc
    .section .note.GNU-stack, "", @progbits
