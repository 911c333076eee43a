/*
 * The 8259s (Intel 8259A data sheet): interrupts come through the IO-APICs, so these are moved out
 * of the exceptions' vectors, for the spurious ones that they may still raise, and masked.
 */
#include "cpu/cpu.h"
#include "irq/internal.h"

#define PIC1 0x20
#define PIC2 0xa0

void pic_disable(void)
{
    outb(PIC1 + 1, 0xff);
    outb(PIC2 + 1, 0xff);
    outb(PIC1, 0x11); /* ICW1: ICW4 follows, cascade, edge */
    outb(PIC1 + 1, 0x20);
    outb(PIC1 + 1, 1u << 2);
    outb(PIC1 + 1, 0x01);
    outb(PIC2, 0x11);
    outb(PIC2 + 1, 0x28);
    outb(PIC2 + 1, 2);
    outb(PIC2 + 1, 0x01);
    outb(PIC1 + 1, 0xff);
    outb(PIC2 + 1, 0xff);
}
