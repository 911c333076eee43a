/* Ways to reset the machine, one after the other until one works; and to stand still. */
#include "acpi/acpi.h"
#include "console/console.h"
#include "cpu/cpu.h"
#include "mm/mm.h"

#define RESET_CONTROL        0xcf9 /* bit 1: hard reset, bit 2: now (PCI chipsets, Intel ICH) */
#define KEYBOARD_COMMAND     0x64
#define KEYBOARD_PULSE_RESET 0xfe
#define ACPI_SPACE_MEMORY    0
#define ACPI_SPACE_IO        1

/* Some tenths of a second for the reset to happen, without trusting any clock. */
static void wait_a_little(void)
{
    for (unsigned i = 0; i < 200000; i++)
        inb(0x80);
}

static void acpi_reset(void)
{
    uint64_t at = acpi_info.reset.address;
    if (!at)
        return;
    if (acpi_info.reset.space == ACPI_SPACE_IO) {
        outb((uint16_t)at, acpi_info.reset.value);
    } else if (acpi_info.reset.space == ACPI_SPACE_MEMORY) {
        uint8_t *page = vmap_contiguous(maddr_to_mfn(maddr(at)), 1, MAP_UC);
        if (page)
            WRITE_ONCE(page[at % PAGE_SIZE], acpi_info.reset.value);
    } else {
        return;
    }
    wait_a_little();
}

void machine_reboot(void)
{
    cli();
    ipi_stop_others();
    acpi_reset();
    outb(RESET_CONTROL, 0x02);
    outb(RESET_CONTROL, 0x06);
    wait_a_little();
    outb(KEYBOARD_COMMAND, KEYBOARD_PULSE_RESET);
    wait_a_little();
    /* No interrupt table: the exception cannot be delivered, and the CPU shuts down. */
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed nothing = {0, 0};
    __asm__ volatile("lidt %0\n\tint3" ::"m"(nothing));
    machine_halt();
}

void machine_halt(void)
{
    cli();
    ipi_stop_others();
    for (;;)
        __asm__ volatile("hlt");
}
