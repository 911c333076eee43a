/*
 * The 8259A pair (dev/pic.h).
 *
 * Differences from the chip: a request of an edge-triggered line stays when the line falls again
 * before it is taken, so that a pulse is one interrupt; a spurious interrupt therefore occurs only
 * when a level goes, and is no interrupt at all. Trigger mode is by the edge/level registers, as in
 * PCs, not by ICW1.
 */
#include "hvm/dev/pic.h"

#include "lib/string.h"

#define MASTER    0
#define SLAVE     1
#define CASCADE   2 /* the first one's input for the second */

#define ICW1_IC4  0x01
#define ICW1_SNGL 0x02
#define ICW1      0x10
#define OCW3      0x08
#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10

#define INIT_STEP 3u /* of init_state: the next ICW is this + 1 */
#define INIT_IC4  4u
#define INIT_SNGL 8u

static const uint8_t elcr_mask[2] = {0xf8, 0xde}; /* 0, 1, 2, 8 and 13 are edge-triggered always */

/*
 * The request of this chip that goes on: none is masked, and none of its own or a higher priority
 * is in service. @request: its IRR, with the cascade.
 */
static int resolve(const struct hvm_hw_vpic *c, uint8_t request)
{
    uint8_t wanted = request & ~c->imr, busy = c->isr;
    if (c->special_mask_mode)
        busy &= ~c->imr;
    if (c->special_fully_nested_mode && c->is_master)
        busy &= ~(1u << CASCADE);
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (c->priority_add + i) & 7;
        if (busy >> n & 1)
            return -1;
        if (wanted >> n & 1)
            return n;
    }
    return -1;
}

static int slave_pending(const struct pic *p)
{
    return resolve(&p->chip[SLAVE], p->chip[SLAVE].irr);
}

static int chip_pending(const struct pic *p, unsigned which)
{
    if (which == SLAVE)
        return slave_pending(p);
    uint8_t request = p->chip[MASTER].irr & ~(1u << CASCADE);
    if (slave_pending(p) >= 0)
        request |= 1u << CASCADE;
    return resolve(&p->chip[MASTER], request);
}

int pic_pending(const struct pic *p)
{
    int n = chip_pending(p, MASTER);
    return n == CASCADE ? 8 + slave_pending(p) : n;
}

uint8_t pic_vector(const struct pic *p, unsigned irq)
{
    return p->chip[irq >> 3 & 1].irq_base + (irq & 7);
}

static void output(struct pic *p)
{
    p->chip[SLAVE].int_output = slave_pending(p) >= 0;
    p->chip[MASTER].int_output = pic_pending(p) >= 0;
}

static void take(struct hvm_hw_vpic *c, unsigned n)
{
    if (!(c->elcr >> n & 1))
        c->irr &= ~(1u << n);
    if (!c->auto_eoi)
        c->isr |= 1u << n;
    else if (c->rotate_on_auto_eoi)
        c->priority_add = (n + 1) & 7;
}

void pic_accept(struct pic *p, unsigned irq)
{
    if (irq >= 8) {
        take(&p->chip[SLAVE], irq & 7);
        irq = CASCADE;
    }
    take(&p->chip[MASTER], irq);
    output(p);
}

enum line_result pic_set_line(struct pic *p, unsigned irq, bool level)
{
    unsigned which = irq >> 3 & 1;
    struct hvm_hw_vpic *c = &p->chip[which];
    uint8_t bit = 1u << (irq & 7);
    bool was = p->lines[which] & bit, requested = c->irr & bit;
    p->lines[which] = level ? p->lines[which] | bit : p->lines[which] & ~bit;
    if (c->elcr & bit)
        c->irr = level ? c->irr | bit : c->irr & ~bit;
    else if (level && !was)
        c->irr |= bit;
    output(p);
    if (!level || was || c->imr & bit)
        return LINE_LOST;
    return requested ? LINE_MERGED : LINE_TAKEN;
}

void pic_reset(struct pic *p)
{
    memset(p, 0, sizeof(*p));
    p->chip[MASTER].is_master = 1;
    p->chip[MASTER].imr = p->chip[SLAVE].imr = 0xff; /* until the firmware comes */
}

/* --- registers --- */

static bool elcr_port(uint16_t port)
{
    return (port & ~1u) == 0x4d0;
}

bool pic_port(uint16_t port)
{
    return (port & ~1u) == 0x20 || (port & ~1u) == 0xa0 || elcr_port(port);
}

/* Highest priority in service, which an EOI without a number ends; -1. */
static int in_service(const struct hvm_hw_vpic *c)
{
    uint8_t busy = c->special_mask_mode ? c->isr & ~c->imr : c->isr;
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (c->priority_add + i) & 7;
        if (busy >> n & 1)
            return n;
    }
    return -1;
}

static void eoi(struct hvm_hw_vpic *c, int n, bool rotate)
{
    if (n < 0)
        return;
    c->isr &= ~(1u << n);
    if (rotate)
        c->priority_add = (n + 1) & 7;
}

static void write_ocw2(struct hvm_hw_vpic *c, uint8_t value)
{
    unsigned n = value & 7;
    switch (value >> 5) {
    case 0:
    case 4:
        c->rotate_on_auto_eoi = value >> 7;
        break;
    case 1:
    case 5:
        eoi(c, in_service(c), value >> 7);
        break;
    case 3:
    case 7:
        eoi(c, n, value >> 7);
        break;
    case 6:
        c->priority_add = (n + 1) & 7;
        break;
    }
}

static void write_icw1(struct hvm_hw_vpic *c, uint8_t line, uint8_t value)
{
    c->irr = line & c->elcr; /* edges are forgotten */
    c->imr = c->isr = 0;
    c->priority_add = 0;
    c->readsel_isr = c->poll = c->special_mask_mode = 0;
    c->auto_eoi = c->rotate_on_auto_eoi = c->special_fully_nested_mode = 0;
    c->init_state = 1 | (value & ICW1_IC4 ? INIT_IC4 : 0) | (value & ICW1_SNGL ? INIT_SNGL : 0);
}

static void write_data(struct hvm_hw_vpic *c, uint8_t value)
{
    bool ic4 = c->init_state & INIT_IC4;
    switch (c->init_state & INIT_STEP) {
    case 0:
        c->imr = value;
        break;
    case 1: /* ICW2 */
        c->irq_base = value & 0xf8;
        if (!(c->init_state & INIT_SNGL))
            c->init_state++;
        else
            c->init_state = ic4 ? (c->init_state & ~INIT_STEP) | 3 : 0;
        break;
    case 2: /* ICW3: the cascade is wired */
        c->init_state = ic4 ? (c->init_state & ~INIT_STEP) | 3 : 0;
        break;
    case 3: /* ICW4 */
        c->special_fully_nested_mode = !!(value & ICW4_SFNM);
        c->auto_eoi = !!(value & ICW4_AEOI);
        c->init_state = 0;
        break;
    }
}

static void write_command(struct pic *p, unsigned which, uint8_t value)
{
    struct hvm_hw_vpic *c = &p->chip[which];
    if (value & ICW1) {
        write_icw1(c, p->lines[which], value);
    } else if (value & OCW3) {
        if (value & 0x40)
            c->special_mask_mode = value >> 5 & 1;
        if (value & 0x04)
            c->poll = 1;
        else if (value & 0x02)
            c->readsel_isr = value & 1;
    } else {
        write_ocw2(c, value);
    }
}

void pic_write(struct pic *p, uint16_t port, uint8_t value)
{
    unsigned which = elcr_port(port) ? port & 1 : port >= 0xa0;
    struct hvm_hw_vpic *c = &p->chip[which];
    if (elcr_port(port)) {
        uint8_t before = c->elcr;
        c->elcr = value & elcr_mask[which];
        uint8_t changed = before ^ c->elcr; /* a level is what it is; edges begin anew */
        c->irr = (c->irr & ~changed) | (p->lines[which] & changed & c->elcr);
    } else if (port & 1) {
        write_data(c, value);
    } else {
        write_command(p, which, value);
    }
    output(p);
}

/* A read that takes the interrupt as the CPU would: what it was, with bit 7. */
static uint8_t poll(struct pic *p, unsigned which)
{
    int n = chip_pending(p, which);
    p->chip[which].poll = 0;
    if (n < 0)
        return 0;
    take(&p->chip[which], n);
    output(p);
    return 0x80 | n;
}

uint8_t pic_read(struct pic *p, uint16_t port)
{
    if (elcr_port(port))
        return p->chip[port & 1].elcr;
    unsigned which = port >= 0xa0;
    const struct hvm_hw_vpic *c = &p->chip[which];
    if (c->poll)
        return poll(p, which);
    if (port & 1)
        return c->imr;
    if (c->readsel_isr)
        return c->isr;
    return which == MASTER && slave_pending(p) >= 0 ? c->irr | 1u << CASCADE : c->irr;
}

/* --- records --- */

int pic_check(const struct hvm_hw_vpic *c, unsigned which)
{
    return which > SLAVE || c->irq_base & 7 || c->priority_add > 7 || c->elcr & ~elcr_mask[which] ||
                   c->is_master != (which == MASTER)
               ? -XEN_EINVAL
               : 0;
}

void pic_load(struct pic *p, const struct hvm_hw_vpic *c, unsigned which)
{
    p->chip[which] = *c;
    output(p);
}
