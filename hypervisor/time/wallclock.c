/*
 * The wall clock: UTC at system time 0. First from the CMOS clock (Motorola MC146818), later as
 * domain 0 sets it (XENPF_settime). Lock: RANK_TIMER.
 */
#include "console/console.h"
#include "cpu/cpu.h"
#include "lib/spinlock.h"
#include "time/internal.h"

#define NS_PER_SECOND 1000000000UL

static struct spinlock lock = SPINLOCK_INIT(RANK_TIMER);
static uint64_t base; /* [o] nanoseconds since 1970 at system time 0 */

void wallclock_get(uint64_t *seconds, uint32_t *nanoseconds)
{
    spin_lock(&lock);
    uint64_t ns = base;
    spin_unlock(&lock);
    *seconds = ns / NS_PER_SECOND;
    *nanoseconds = (uint32_t)(ns % NS_PER_SECOND);
}

void wallclock_set(uint64_t seconds, uint32_t nanoseconds, ns_t at)
{
    spin_lock(&lock);
    base = seconds * NS_PER_SECOND + nanoseconds - at;
    spin_unlock(&lock);
}

/* --- CMOS --- */

#define CMOS_INDEX      0x70
#define CMOS_DATA       0x71
#define CMOS_STATUS_A   0x0a
#define CMOS_STATUS_B   0x0b
#define STATUS_A_BUSY   0x80
#define STATUS_B_BINARY 0x04
#define STATUS_B_24H    0x02
#define HOUR_PM         0x80

struct cmos_time {
    uint8_t second, minute, hour, day, month, year;
};

static uint8_t cmos_read(uint8_t reg)
{
    outb(CMOS_INDEX, reg);
    return inb(CMOS_DATA);
}

static struct cmos_time cmos_read_all(void)
{
    for (unsigned i = 0; i < 100000 && (cmos_read(CMOS_STATUS_A) & STATUS_A_BUSY); i++)
        cpu_pause();
    return (struct cmos_time){.second = cmos_read(0),
                              .minute = cmos_read(2),
                              .hour = cmos_read(4),
                              .day = cmos_read(7),
                              .month = cmos_read(8),
                              .year = cmos_read(9)};
}

static unsigned from_bcd(uint8_t v, bool binary)
{
    return binary ? v : (v >> 4) * 10u + (v & 15u);
}

/* Days since 1970-01-01 in the Gregorian calendar, by counting years from March on. */
static uint64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    return 365ul * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

void __init wallclock_init(void)
{
    struct cmos_time t = cmos_read_all(), again;
    /* Until two readings agree: no update fell in between. */
    for (unsigned i = 0; i < 10; i++, t = again) {
        again = cmos_read_all();
        if (!__builtin_memcmp(&t, &again, sizeof(t)))
            break;
    }
    uint8_t status = cmos_read(CMOS_STATUS_B);
    bool binary = status & STATUS_B_BINARY, pm = t.hour & HOUR_PM;
    unsigned hour = from_bcd(t.hour & ~HOUR_PM, binary);
    if (!(status & STATUS_B_24H))
        hour = hour % 12 + (pm ? 12 : 0);
    unsigned year = 2000 + from_bcd(t.year, binary);
    unsigned month = from_bcd(t.month, binary), day = from_bcd(t.day, binary);
    unsigned minute = from_bcd(t.minute, binary), second = from_bcd(t.second, binary);
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59) {
        log_warn("the CMOS clock is not set");
        return;
    }
    uint64_t seconds =
        days_since_1970(year, month, day) * 86400 + hour * 3600ul + minute * 60ul + second;
    wallclock_set(seconds, 0, time_now());
    log_info("wall clock: %u-%02u-%02u %02u:%02u:%02u UTC", year, month, day, hour, minute, second);
}
