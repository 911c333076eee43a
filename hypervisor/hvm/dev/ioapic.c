/*
 * The IO-APIC (dev/ioapic.h).
 *
 * An edge on a masked input is lost, as the data sheet has it. A level that is sent waits for its
 * end (remote IRR) before it is sent again; one that no local APIC accepts does not wait, and is
 * tried again with the next change of its line or its entry.
 */
#include "hvm/dev/ioapic.h"

#include "lib/string.h"

#define REG_SELECT       0x00
#define REG_WINDOW       0x10

#define INDEX_ID         0x00
#define INDEX_VERSION    0x01
#define INDEX_ARBITER    0x02
#define INDEX_ENTRIES    0x10

#define VERSION          (0x11u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_LOGICAL    (1UL << 11)
#define ENTRY_STATUS     (1UL << 12)
#define ENTRY_REMOTE_IRR (1UL << 14)
#define ENTRY_LEVEL      (1UL << 15)
#define ENTRY_MASKED     (1UL << 16)
#define ENTRY_MODE(e)    ((e) >> 8 & 7)
#define ENTRY_DEST       0xff00000000000000UL
#define ENTRY_WRITABLE   (ENTRY_DEST | 0x1afffUL) /* all but status, remote IRR and reserved ones */
#define MODE_SMI         2

static uint64_t *entry(struct ioapic *io, unsigned pin)
{
    return &io->regs.redirtbl[pin].bits;
}

/* A level only while it is there and not waiting. */
static enum line_result send(struct ioapic *io, unsigned pin)
{
    uint64_t *e = entry(io, pin);
    bool level = *e & ENTRY_LEVEL;
    if (*e & ENTRY_MASKED)
        return LINE_LOST;
    if (level && (*e & ENTRY_REMOTE_IRR))
        return LINE_MERGED;
    unsigned mode = ENTRY_MODE(*e);
    if (mode == LAPIC_EXTINT || mode == MODE_SMI || mode == 3 || mode == LAPIC_STARTUP)
        return LINE_LOST; /* by the 8259s; or not at all */
    struct lapic_ipi ipi = {
        .vector = *e,
        .mode = mode,
        .logical = *e & ENTRY_LOGICAL,
        .level = level && (mode == LAPIC_FIXED || mode == LAPIC_LOWEST),
        .dest = *e >> 56,
    };
    enum line_result r = io->ops->send(io, &ipi);
    if (ipi.level && r != LINE_LOST)
        *e |= ENTRY_REMOTE_IRR;
    return r;
}

static void send_level(struct ioapic *io, unsigned pin)
{
    if ((io->lines >> pin & 1) && (*entry(io, pin) & ENTRY_LEVEL))
        (void)send(io, pin);
}

enum line_result ioapic_set_line(struct ioapic *io, unsigned pin, bool level)
{
    bool was = io->lines >> pin & 1;
    io->lines = level ? io->lines | 1UL << pin : io->lines & ~(1UL << pin);
    return level && !was ? send(io, pin) : LINE_LOST;
}

static void end_level(struct ioapic *io, unsigned pin)
{
    *entry(io, pin) &= ~ENTRY_REMOTE_IRR;
    if (io->ops->done)
        io->ops->done(io, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *e = entry(io, pin);
        if (!(*e & ENTRY_REMOTE_IRR) || (uint8_t)*e != vector)
            continue;
        end_level(io, pin);
        send_level(io, pin);
    }
}

bool ioapic_extint(const struct ioapic *io)
{
    uint64_t e = io->regs.redirtbl[0].bits;
    return !(e & ENTRY_MASKED) && ENTRY_MODE(e) == LAPIC_EXTINT;
}

/* --- registers --- */

static void write_entry(struct ioapic *io, unsigned pin, bool high, uint32_t value)
{
    uint64_t *e = entry(io, pin), wanted;
    wanted = high ? (uint64_t)value << 32 | (uint32_t)*e : (*e & ENTRY_DEST) | value;
    *e = (wanted & ENTRY_WRITABLE) | (*e & ENTRY_REMOTE_IRR);
    if ((*e & ENTRY_REMOTE_IRR) && !(*e & ENTRY_LEVEL))
        end_level(io, pin); /* how kernels end one that nobody will */
    send_level(io, pin);
}

uint32_t ioapic_read(struct ioapic *io, unsigned offset)
{
    unsigned index = io->regs.ioregsel, pin = (index - INDEX_ENTRIES) / 2;
    if (offset == REG_SELECT)
        return index;
    if (offset != REG_WINDOW)
        return 0;
    if (index == INDEX_ID || index == INDEX_ARBITER)
        return io->regs.id << 24;
    if (index == INDEX_VERSION)
        return VERSION;
    if (index < INDEX_ENTRIES || pin >= IOAPIC_PINS)
        return 0;
    return *entry(io, pin) >> (index & 1 ? 32 : 0);
}

void ioapic_write(struct ioapic *io, unsigned offset, uint32_t value)
{
    unsigned index = io->regs.ioregsel, pin = (index - INDEX_ENTRIES) / 2;
    if (offset == REG_SELECT)
        io->regs.ioregsel = value & 0xff;
    if (offset != REG_WINDOW)
        return;
    if (index == INDEX_ID)
        io->regs.id = value >> 24 & 0xf;
    else if (index >= INDEX_ENTRIES && pin < IOAPIC_PINS)
        write_entry(io, pin, index & 1, value);
}

void ioapic_reset(struct ioapic *io, const struct ioapic_ops *ops)
{
    memset(io, 0, sizeof(*io));
    io->ops = ops;
    io->regs.base_address = IOAPIC_PAGE;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        *entry(io, pin) = ENTRY_MASKED;
}

/* --- records --- */

int ioapic_check(const struct hvm_hw_vioapic *in)
{
    if (in->base_address != IOAPIC_PAGE || in->ioregsel > 0xff || in->id > 0xf)
        return -XEN_EINVAL;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = in->redirtbl[pin].bits;
        if (e & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR | ENTRY_STATUS) ||
            ((e & ENTRY_REMOTE_IRR) && !(e & ENTRY_LEVEL)))
            return -XEN_EINVAL;
    }
    return 0;
}

void ioapic_load(struct ioapic *io, const struct hvm_hw_vioapic *in)
{
    io->regs = *in;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        *entry(io, pin) &= ~ENTRY_STATUS;
}
