/*
 * The wall clock: UTC at nanosecond 0 of our time. Read from the CMOS clock (Motorola MC146818) at
 * boot, set by domain 0 afterwards (XENPF_settime).
 */
#include "cpu/asm.h"
#include "lib/string.h"
#include "lib/spinlock.h"
#include "time/internal.h"

/* Readers are few; one lock orders them with the one writer. */
static struct spinlock lock = SPINLOCK_INIT(RANK_TIMER);
static uint64_t boot_seconds;     /* [lock] since 1970 */
static uint32_t boot_nanoseconds; /* [lock] */

void wallclock_get(uint64_t *seconds, uint32_t *nanoseconds)
{
    spin_lock(&lock);
    *seconds = boot_seconds;
    *nanoseconds = boot_nanoseconds;
    spin_unlock(&lock);
}

void wallclock_set(uint64_t seconds, uint32_t nanoseconds, ns_t at)
{
    /* The boot was @at ago. A clock before 1970 is taken as 1970. */
    uint64_t whole = at / SECONDS(1), part = at % SECONDS(1);
    if (nanoseconds < part) {
        nanoseconds += SECONDS(1);
        whole++;
    }
    spin_lock(&lock);
    boot_seconds = seconds > whole ? seconds - whole : 0;
    boot_nanoseconds = nanoseconds - part;
    spin_unlock(&lock);
}

#define CMOS_SECONDS 0x00
#define CMOS_MINUTES 0x02
#define CMOS_HOURS   0x04
#define CMOS_DAY     0x07
#define CMOS_MONTH   0x08
#define CMOS_YEAR    0x09
#define CMOS_A       0x0a
#define CMOS_B       0x0b
#define A_UPDATING   0x80
#define B_BINARY     0x04
#define B_24H        0x02
#define HOURS_PM     0x80

static uint8_t cmos(uint8_t reg)
{
    outb(0x70, reg);
    return inb(0x71);
}

struct cmos_time {
    uint8_t second, minute, hour, day, month, year;
};

static void read_fields(struct cmos_time *t)
{
    for (unsigned tries = 0; cmos(CMOS_A) & A_UPDATING && tries < 1000000; tries++)
        cpu_pause();
    t->second = cmos(CMOS_SECONDS);
    t->minute = cmos(CMOS_MINUTES);
    t->hour = cmos(CMOS_HOURS);
    t->day = cmos(CMOS_DAY);
    t->month = cmos(CMOS_MONTH);
    t->year = cmos(CMOS_YEAR);
}

static unsigned number(uint8_t v, bool bcd)
{
    return bcd ? (v >> 4) * 10 + (v & 15) : v;
}

/* Days from 1970-01-01 to the first of March of year @y is linear enough; Gregorian calendar. */
static uint64_t days_since_1970(unsigned y, unsigned m, unsigned d)
{
    if (m <= 2) { /* count years from March: then the leap day is the last one */
        y--;
        m += 12;
    }
    return 365UL * y + y / 4 - y / 100 + y / 400 + (153 * (m - 3) + 2) / 5 + d - 1 - 719468;
}

void wallclock_init(void)
{
    struct cmos_time a, b;
    read_fields(&a);
    do { /* twice the same: no update in between */
        b = a;
        read_fields(&a);
    } while (memcmp(&a, &b, sizeof(a)));

    uint8_t mode = cmos(CMOS_B);
    bool bcd = !(mode & B_BINARY), pm = !(mode & B_24H) && a.hour & HOURS_PM;
    unsigned hour = number(mode & B_24H ? a.hour : a.hour & ~HOURS_PM, bcd);
    if (!(mode & B_24H))
        hour = hour % 12 + (pm ? 12 : 0);
    unsigned month = number(a.month, bcd), year = 2000 + number(a.year, bcd);
    uint64_t days = days_since_1970(year, month ? month : 1, number(a.day, bcd));
    uint64_t seconds =
        days * 86400 + hour * 3600UL + number(a.minute, bcd) * 60UL + number(a.second, bcd);
    wallclock_set(seconds, 0, time_now());
}
