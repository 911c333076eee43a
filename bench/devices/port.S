/*
 * The smallest PVH guest that needs a device model: writes and reads a port of it (model.c), each
 * between two markers (bench/counter/counter.c), after some to be warm.
 */
#define __ASSEMBLY__
#include <xen/elfnote.h>
#include "note.h"
#include "port.h"

note XEN_ELFNOTE_PHYS32_ENTRY, .long pvh_entry

.macro mark id
    .byte 0x0f, 0x1f, 0x80
    .long 0x54420000 + \id
.endm

    .section .text.start, "ax"
    .code32
    .globl pvh_entry
pvh_entry:
    mov $PORT, %edx
    mov $WARM, %ecx
1:  out %al, %dx
    loop 1b
    mark 1
    mov $COUNT, %ecx
1:  out %al, %dx
    loop 1b
    mark 2
    mark 1
    mov $COUNT, %ecx
1:  in %dx, %al
    loop 1b
    mark 2
    mark 4
    out %al, %dx            /* never answered: there is nobody left */
    ud2
    .section .note.GNU-stack, "", @progbits
