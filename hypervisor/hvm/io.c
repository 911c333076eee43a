/*
 * Who answers when a hardware-virtualized guest reaches for a port, or for memory where no RAM is:
 * its local APIC, the platform's own devices, or nobody: then reads find all ones and writes are
 * lost, as on a bus.
 */
#include "hvm/hvm.h"
#include "hvm/platform.h"

static uint64_t ones(unsigned size)
{
    return size >= 8 ? ~0UL : (1UL << 8 * size) - 1;
}

int hvm_io_port(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    if (!platform_port(v, port, size, write, value) && !write)
        *value = (uint32_t)ones(size);
    return 0;
}

/* Registers of 32 bits, 16 bytes apart; narrow and wide reads find what is there of them. */
static void apic(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    unsigned reg = gpa >> 4 & 0xff;
    if (!write) {
        uint64_t all = lapic_read(&v->hvm->lapic, reg);
        *value = gpa % 16 < 4 ? all >> 8 * (gpa % 4) : 0;
    } else if (gpa % 16 == 0 && size == 4) {
        lapic_write(&v->hvm->lapic, reg, (uint32_t)*value);
    }
}

int hvm_io_mem(struct vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *value)
{
    if (hvm_apic_page(v, gpa))
        apic(v, gpa, size, write, value);
    else if (!platform_mem(v, gpa, size, write, value) && !write)
        *value = ones(size);
    return 0;
}
