/*
 * The 8254 (dev/pit.h). A channel counts by computing: what it counts from and when it began say
 * what it would show. A count that is written takes effect at once, also in the modes in which the
 * chip would finish its period first.
 */
#include "hvm/dev/pit.h"

#include "hvm/dev/device.h"
#include "lib/string.h"

#define REFRESH_NS   15085 /* port 0x61 bit 4 changes with each refresh of memory */

#define PORT_COMMAND 0x43
#define PORT_SPEAKER 0x61

static bool rate_mode(const struct pit_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

static uint64_t elapsed(const struct pit_channel *c, uint64_t now)
{
    return now > c->start ? clock_ticks(now - c->start, PIT_HZ) : 0;
}

static uint64_t passed(const struct pit_channel *c, uint64_t now)
{
    if (c->stopped)
        return 0;
    if (!c->gate && (c->mode == 0 || c->mode == 4))
        return c->held;
    return elapsed(c, now);
}

/* OUT, as the data sheet's timing diagrams show it. */
static bool out(const struct pit_channel *c, uint64_t now)
{
    uint64_t t = passed(c, now);
    if (!c->count || c->stopped)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1:
        return t >= c->count;
    case 2:
        return !c->gate || t % c->count != c->count - 1;
    case 3:
        return !c->gate || t % c->count < (c->count + 1) / 2;
    default:
        return t != c->count;
    }
}

static uint16_t to_bcd(unsigned n)
{
    n %= 10000;
    return n / 1000 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10;
}

static uint32_t from_bcd(uint16_t n)
{
    return (n >> 12) * 1000 + (n >> 8 & 15) * 100 + (n >> 4 & 15) * 10 + (n & 15);
}

static uint16_t counter(const struct pit_channel *c, uint64_t now)
{
    uint64_t t = passed(c, now), left;
    uint32_t turn = c->bcd ? 10000 : 65536;
    if (!c->count)
        return 0;
    switch (c->mode) {
    case 2:
        left = c->gate ? c->count - t % c->count : c->count;
        break;
    case 3: /* by two */
        left = c->gate ? c->count - 2 * t % c->count : c->count;
        break;
    default:
        left = (c->count + turn - t % turn) % turn;
        break;
    }
    return c->bcd ? to_bcd(left) : left;
}

/* --- counts --- */

static void load(struct pit *p, struct pit_channel *c, uint16_t value, uint64_t now)
{
    c->count = c->bcd ? min(from_bcd(value), 10000u) : value; /* digits above 9 mean nothing */
    if (!c->count)
        c->count = c->bcd ? 10000 : 65536;
    c->start = now;
    c->held = 0;
    c->stopped = c->mode == 1 || c->mode == 5;
    if (c == &p->channel[0])
        p->edges = 0;
}

static void write_count(struct pit *p, struct pit_channel *c, uint8_t value, uint64_t now)
{
    switch (c->rw) {
    case 1:
        load(p, c, value, now);
        break;
    case 2:
        load(p, c, value << 8, now);
        break;
    case 3:
        if (c->write_high)
            load(p, c, c->write_latch | value << 8, now);
        else if (c->mode == 0)
            c->count = 0; /* the first byte stops it */
        c->write_latch = value;
        c->write_high = !c->write_high;
        break;
    }
}

static void latch_count(struct pit_channel *c, uint64_t now)
{
    if (c->count_latched)
        return;
    c->latched_count = counter(c, now);
    c->count_latched = c->rw == 3 ? 2 : 1;
}

static void latch_status(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched)
        return;
    c->status = out(c, now) << 7 | (!c->count) << 6 | c->rw << 4 | c->mode << 1 | c->bcd;
    c->status_latched = true;
}

static uint8_t read_count(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t value = c->count_latched ? c->latched_count : counter(c, now);
    bool high =
        c->rw == 2 || (c->rw == 3 && (c->count_latched ? c->count_latched == 1 : c->read_high));
    if (c->count_latched)
        c->count_latched--;
    else if (c->rw == 3)
        c->read_high = !c->read_high;
    return high ? value >> 8 : value;
}

static void write_command(struct pit *p, uint8_t value, uint64_t now)
{
    unsigned n = value >> 6;
    if (n == 3) { /* read back: bits 5 and 4 are what not to latch */
        for (unsigned i = 0; i < PIT_CHANNELS; i++) {
            if (!(value >> (i + 1) & 1))
                continue;
            if (!(value & 0x20))
                latch_count(&p->channel[i], now);
            if (!(value & 0x10))
                latch_status(&p->channel[i], now);
        }
        return;
    }
    struct pit_channel *c = &p->channel[n];
    if (!(value & 0x30)) {
        latch_count(c, now);
        return;
    }
    c->rw = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5)
        c->mode &= 3;
    c->bcd = value & 1;
    c->count = c->count_latched = 0;
    c->status_latched = c->read_high = c->write_high = c->stopped = false;
}

static void set_gate(struct pit_channel *c, bool gate, uint64_t now)
{
    if (gate == c->gate)
        return;
    if (c->mode == 0 || c->mode == 4) {
        if (gate)
            c->start = now - (clock_ns(c->held, PIT_HZ) < now ? clock_ns(c->held, PIT_HZ) : now);
        else
            c->held = elapsed(c, now) < 1UL << 32 ? elapsed(c, now) : 1UL << 32;
    } else if (gate) {
        c->start = now;
        c->stopped = false;
    }
    c->gate = gate;
}

/* --- ports --- */

bool pit_port(uint16_t port)
{
    return (port & ~3u) == 0x40 || port == PORT_SPEAKER;
}

uint8_t pit_read(struct pit *p, uint16_t port, uint64_t now)
{
    if (port == PORT_SPEAKER)
        return p->speaker | (now / REFRESH_NS & 1) << 4 | out(&p->channel[2], now) << 5;
    return port == PORT_COMMAND ? 0xff : read_count(&p->channel[port & 3], now);
}

void pit_write(struct pit *p, uint16_t port, uint8_t value, uint64_t now)
{
    if (port == PORT_SPEAKER) {
        p->speaker = value & 0xf;
        set_gate(&p->channel[2], value & 1, now);
    } else if (port == PORT_COMMAND) {
        write_command(p, value, now);
    } else {
        write_count(p, &p->channel[port & 3], value, now);
    }
}

void pit_reset(struct pit *p, uint64_t now)
{
    memset(p, 0, sizeof(*p));
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        struct pit_channel *c = &p->channel[i];
        c->rw = 3;
        c->mode = 3;
        c->gate = i != 2;
        c->start = now;
    }
}

/* --- channel 0's interrupts: OUT rises --- */

/* Ticks from one to the next, for modes that repeat. */
static uint64_t period(const struct pit_channel *c)
{
    const uint32_t least = clock_ticks(DEV_PERIOD_LEAST, PIT_HZ);
    return c->count < least ? least : c->count;
}

uint64_t pit_next(const struct pit *p)
{
    const struct pit_channel *c = &p->channel[0];
    if (!c->count || c->stopped)
        return DEV_NEVER;
    if (rate_mode(c))
        return clock_add(c->start, clock_ns((p->edges + 1) * period(c), PIT_HZ));
    if (p->edges)
        return DEV_NEVER;
    return clock_add(c->start, clock_ns(c->count + (c->mode == 4), PIT_HZ));
}

uint64_t pit_advance(struct pit *p, uint64_t now)
{
    struct pit_channel *c = &p->channel[0];
    uint64_t t = elapsed(c, now), sum = p->edges;
    if (!c->count || c->stopped)
        return 0;
    if (rate_mode(c))
        sum = t / period(c);
    else if (t >= c->count + (c->mode == 4))
        sum = 1;
    uint64_t more = sum > p->edges ? sum - p->edges : 0;
    p->edges += more;
    return more;
}

/* --- records --- */

void pit_save(const struct pit *p, struct hvm_hw_pit *r)
{
    memset(r, 0, sizeof(*r));
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        const struct pit_channel *c = &p->channel[i];
        struct hvm_hw_pit_channel *o = &r->channels[i];
        o->count = c->count;
        o->latched_count = c->latched_count;
        o->count_latched = c->count_latched;
        o->status_latched = c->status_latched;
        o->status = c->status;
        o->read_state = c->rw == 3 ? 3 + c->read_high : c->rw;
        o->write_state = c->rw == 3 ? 3 + c->write_high : c->rw;
        o->write_latch = c->write_latch;
        o->rw_mode = c->rw;
        o->mode = c->mode;
        o->bcd = c->bcd;
        o->gate = c->gate;
    }
    r->speaker_data_on = p->speaker >> 1 & 1;
}

int pit_check(const struct hvm_hw_pit *r)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        const struct hvm_hw_pit_channel *c = &r->channels[i];
        if (c->count > (c->bcd ? 10000 : 65536) || c->count_latched > 2 || c->status_latched > 1 ||
            c->read_state > 4 || c->write_state > 4 || !c->rw_mode || c->rw_mode > 3 ||
            c->mode > 5 || c->bcd > 1 || c->gate > 1 || (i != 2 && !c->gate))
            return -XEN_EINVAL;
    }
    return r->speaker_data_on > 1 ? -XEN_EINVAL : 0;
}

void pit_load(struct pit *p, const struct hvm_hw_pit *r, uint64_t now)
{
    pit_reset(p, now);
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        const struct hvm_hw_pit_channel *s = &r->channels[i];
        p->channel[i] = (struct pit_channel){
            .count = s->count,
            .latched_count = s->latched_count,
            .count_latched = s->count_latched,
            .status_latched = s->status_latched,
            .status = s->status,
            .read_high = s->read_state == 4,
            .write_high = s->write_state == 4,
            .write_latch = s->write_latch,
            .rw = s->rw_mode,
            .mode = s->mode,
            .bcd = s->bcd,
            .gate = s->gate,
            .start = now,
        };
    }
    p->speaker = r->speaker_data_on << 1 | p->channel[2].gate;
}
