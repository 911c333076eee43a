/*
 * The MC146818 (dev/rtc.h). The time is computed from the wall clock when it is read; setting it
 * changes the offset from there. Flags of register C are brought up to date before anything is
 * done, and the line stays up until C is read, as the chip has it.
 */
#include "hvm/dev/rtc.h"

#include "hvm/dev/device.h"
#include "lib/string.h"

enum { SECONDS_AT, ALARM_S, MINUTES_AT, ALARM_M, HOURS_AT, ALARM_H, WEEKDAY, DAY, MONTH, YEAR };
enum { A = 10, B, C, D };

#define A_UIP       0x80
#define B_SET       0x80
#define B_PIE       0x40
#define B_AIE       0x20
#define B_UIE       0x10
#define B_BINARY    0x04
#define B_24H       0x02
#define C_IRQF      0x80
#define C_PF        0x40
#define C_AF        0x20
#define C_UF        0x10
#define D_VALID     0x80
#define RATE_HZ     32768u
#define UPDATE_NS   244000 /* UIP is up for so long before the second */
#define DAY_SECONDS 86400
#define ANY         0xc0 /* alarm registers from here on match everything */

/* --- seconds since 1970 and dates (proleptic Gregorian) --- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01; years begin in March, so that leap days are last. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = floor_div(year, 400);
    unsigned of_era = year - era * 400;
    unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    days += 719468;
    int64_t era = floor_div(days, 146097);
    unsigned of_era = days - era * 146097;
    unsigned y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    *day = of_year - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = y + era * 400 + (*month <= 2);
}

/* --- the time in registers --- */

static uint8_t encode(const struct rtc *r, unsigned n)
{
    return r->reg[B] & B_BINARY ? n : n / 10 << 4 | n % 10;
}

static unsigned decode(const struct rtc *r, uint8_t n)
{
    return r->reg[B] & B_BINARY ? n : (n >> 4) * 10 + (n & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned hour)
{
    if (r->reg[B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t n)
{
    if (r->reg[B] & B_24H)
        return decode(r, n);
    return decode(r, n & 0x7f) % 12 + (n & 0x80 ? 12 : 0);
}

static int64_t ns_of(const struct rtc *r, uint64_t now)
{
    return r->wall + (int64_t)now;
}

static int64_t second_of(const struct rtc *r, uint64_t now)
{
    return floor_div(ns_of(r, now), DEV_SECOND) + r->offset;
}

static bool stopped(const struct rtc *r)
{
    return r->reg[B] & B_SET;
}

static void fill(struct rtc *r, int64_t second)
{
    int64_t days = floor_div(second, DAY_SECONDS), year;
    unsigned of_day = second - days * DAY_SECONDS, month, day;
    date_of(days, &year, &month, &day);
    r->reg[SECONDS_AT] = encode(r, of_day % 60);
    r->reg[MINUTES_AT] = encode(r, of_day / 60 % 60);
    r->reg[HOURS_AT] = encode_hour(r, of_day / 3600);
    r->reg[WEEKDAY] = encode(r, (days + 4) - floor_div(days + 4, 7) * 7 + 1);
    r->reg[DAY] = encode(r, day);
    r->reg[MONTH] = encode(r, month);
    r->reg[YEAR] = encode(r, year - floor_div(year, 100) * 100);
}

/* Values out of range count on into the next unit. The century is the one from 1970 on. */
static int64_t second_in_registers(const struct rtc *r)
{
    unsigned year = decode(r, r->reg[YEAR]) % 100, month = decode(r, r->reg[MONTH]);
    int64_t days = days_of(year < 70 ? 2000 + year : 1900 + year,
                           month < 1    ? 1
                           : month > 12 ? 12
                                        : month,
                           1) +
                   (int64_t)decode(r, r->reg[DAY]) - 1;
    return days * DAY_SECONDS + decode_hour(r, r->reg[HOURS_AT]) * 3600 +
           decode(r, r->reg[MINUTES_AT]) * 60 + decode(r, r->reg[SECONDS_AT]);
}

static void set_time(struct rtc *r, uint64_t now)
{
    r->offset += second_in_registers(r) - second_of(r, now);
    r->second = second_of(r, now);
}

/* --- flags --- */

/* Ticks from one periodic interrupt to the next; 0: none. */
static uint64_t period(const struct rtc *r)
{
    unsigned rate = r->reg[A] & 15;
    if (!rate || (r->reg[A] & 0x70) != 0x20) /* the divider is in reset, or for another crystal */
        return 0;
    return rate < 3 ? 64UL << rate : 1UL << (rate - 1);
}

/* Seconds from @second to the alarm's next match; 0: never. */
static uint32_t alarm_in(const struct rtc *r, int64_t second)
{
    bool any_h = r->reg[ALARM_H] >= ANY, any_m = r->reg[ALARM_M] >= ANY,
         any_s = r->reg[ALARM_S] >= ANY;
    unsigned h = any_h ? 0 : decode_hour(r, r->reg[ALARM_H]);
    unsigned m = any_m ? 0 : decode(r, r->reg[ALARM_M]);
    unsigned s = any_s ? 0 : decode(r, r->reg[ALARM_S]);
    if (h > 23 || m > 59 || s > 59)
        return 0;
    uint32_t from = second - floor_div(second, DAY_SECONDS) * DAY_SECONDS, at = from + 1;
    /* Each step goes to the start of the next unit that may match: a few do. */
    for (unsigned step = 0; step < 8; step++) {
        uint32_t hour = at / 3600 % 24, minute = at / 60 % 60, sec = at % 60;
        if (!any_h && hour != h)
            at = at / 3600 * 3600 + (h + 24 - hour) % 24 * 3600;
        else if (!any_m && minute != m)
            at = minute < m ? at / 60 * 60 + (m - minute) * 60 : (at / 3600 + 1) * 3600;
        else if (!any_s && sec != s)
            at = sec < s ? at + (s - sec) : (at / 60 + 1) * 60;
        else
            return at - from;
    }
    return 0;
}

static void set_flags(struct rtc *r, uint8_t flags)
{
    r->reg[C] |= flags;
    if (r->reg[C] & r->reg[B] & (C_PF | C_AF | C_UF))
        r->reg[C] |= C_IRQF;
}

static void advance_periodic(struct rtc *r, uint64_t now)
{
    uint64_t t = clock_ticks(now, RATE_HZ), p = period(r);
    uint64_t n = p ? t / p - r->ticks / p : 0;
    r->ticks = t;
    if (!n)
        return;
    uint64_t missed = n - 1 + ((r->reg[C] & C_PF) && (r->reg[B] & B_PIE));
    if (r->reg[B] & B_PIE)
        r->owed = missed < r->owed_most - r->owed ? r->owed + missed : r->owed_most;
    set_flags(r, C_PF);
}

void rtc_advance(struct rtc *r, uint64_t now)
{
    if (r->owed > r->owed_most)
        r->owed = r->owed_most;
    advance_periodic(r, now);
    int64_t second = second_of(r, now);
    if (stopped(r) || second <= r->second) {
        r->second = second;
        return;
    }
    uint32_t alarm = alarm_in(r, r->second);
    if (alarm && alarm <= second - r->second)
        set_flags(r, C_AF);
    set_flags(r, C_UF);
    r->second = second;
}

uint64_t rtc_next(const struct rtc *r, uint64_t now)
{
    uint64_t next = DEV_NEVER, p = period(r);
    if ((r->reg[B] & B_PIE) && p)
        next = clock_ns((r->ticks / p + 1) * p, RATE_HZ);
    if (stopped(r) || !(r->reg[B] & (B_AIE | B_UIE)))
        return next;
    int64_t ns = ns_of(r, now);
    uint64_t boundary = now + DEV_SECOND - (ns - floor_div(ns, DEV_SECOND) * (int64_t)DEV_SECOND);
    uint32_t seconds = r->reg[B] & B_UIE ? 1 : alarm_in(r, r->second);
    uint64_t when = seconds ? boundary + (seconds - 1) * DEV_SECOND : DEV_NEVER;
    return when < next ? when : next;
}

bool rtc_line(const struct rtc *r)
{
    return r->reg[C] & C_IRQF;
}

/* --- ports --- */

bool rtc_ours(const struct rtc *r)
{
    return (r->index & 0x7f) < RTC_CMOS_SIZE;
}

void rtc_select(struct rtc *r, uint8_t index)
{
    r->index = index;
}

static bool updating(const struct rtc *r, uint64_t now)
{
    int64_t ns = ns_of(r, now);
    return !stopped(r) &&
           ns - floor_div(ns, DEV_SECOND) * (int64_t)DEV_SECOND >= (int64_t)DEV_SECOND - UPDATE_NS;
}

/* A periodic interrupt that is owed follows at once. */
static uint8_t read_flags(struct rtc *r)
{
    uint8_t was = r->reg[C];
    r->reg[C] = 0;
    if (r->owed) {
        r->owed--;
        set_flags(r, C_PF);
    }
    return was;
}

uint8_t rtc_read(struct rtc *r, uint64_t now)
{
    unsigned i = r->index & 0x7f;
    rtc_advance(r, now);
    if (i >= RTC_CMOS_SIZE)
        return 0xff;
    if (i == A)
        return r->reg[A] | (updating(r, now) ? A_UIP : 0);
    if (i == C)
        return read_flags(r);
    if (!stopped(r))
        fill(r, r->second);
    return r->reg[i];
}

static void write_b(struct rtc *r, uint8_t value, uint64_t now)
{
    uint8_t before = r->reg[B];
    if (value & B_SET)
        value &= ~B_UIE; /* the data sheet's word */
    if (!(before & B_SET) && (value & B_SET))
        fill(r, r->second);
    r->reg[B] = value;
    if ((before & B_SET) && !(value & B_SET))
        set_time(r, now);
    if (!(value & B_PIE))
        r->owed = 0;
    set_flags(r, 0);
    if (!(r->reg[C] & value & (C_PF | C_AF | C_UF)))
        r->reg[C] &= ~C_IRQF;
}

void rtc_write(struct rtc *r, uint8_t value, uint64_t now)
{
    unsigned i = r->index & 0x7f;
    rtc_advance(r, now);
    switch (i) {
    case A:
        r->reg[A] = value & 0x7f;
        r->owed = 0;
        break;
    case B:
        write_b(r, value, now);
        break;
    case C:
    case D:
        break;
    case ALARM_S:
    case ALARM_M:
    case ALARM_H:
        r->reg[i] = value;
        break;
    default:
        if (i >= RTC_CMOS_SIZE)
            break;
        if (!stopped(r))
            fill(r, r->second);
        r->reg[i] = value;
        if (!stopped(r))
            set_time(r, now);
        break;
    }
}

void rtc_reset(struct rtc *r, int64_t wall, int64_t offset, uint64_t now)
{
    memset(r, 0, sizeof(*r));
    r->wall = wall;
    r->offset = offset;
    r->reg[A] = 0x26; /* 32768 Hz, rate 1024 Hz */
    r->reg[B] = B_24H;
    r->reg[D] = D_VALID;
    r->ticks = clock_ticks(now, RATE_HZ);
    r->second = second_of(r, now);
}

/* --- records --- */

void rtc_save(struct rtc *r, struct hvm_hw_rtc *out, uint64_t now)
{
    memset(out, 0, sizeof(*out));
    rtc_advance(r, now);
    if (!stopped(r))
        fill(r, r->second);
    memcpy(out->cmos_data, r->reg, sizeof(out->cmos_data));
    out->cmos_index = r->index;
    out->rtc_offset = r->offset;
}

int rtc_check(const struct hvm_hw_rtc *in)
{
    const int64_t most = 1L << 40; /* seconds: farther than any clock */
    return in->cmos_data[A] & A_UIP || in->rtc_offset > most || in->rtc_offset < -most ? -XEN_EINVAL
                                                                                       : 0;
}

void rtc_load(struct rtc *r, const struct hvm_hw_rtc *in, uint64_t now)
{
    memcpy(r->reg, in->cmos_data, sizeof(r->reg));
    r->reg[D] = D_VALID;
    r->reg[C] &= C_PF | C_AF | C_UF;
    set_flags(r, 0);
    r->index = in->cmos_index;
    r->offset = in->rtc_offset;
    r->ticks = clock_ticks(now, RATE_HZ);
    r->second = second_of(r, now);
    r->owed = 0;
}
