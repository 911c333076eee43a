/*
 * The clock of a PC's MC146818 at 0x70 and 0x71: its registers 0 to 13. The memory behind them is
 * the device model's, which firmware asks there for what the model told it, so that an access to it
 * is not ours (the ABI's record has as many bytes).
 */
#ifndef HVM_DEV_RTC_H
#define HVM_DEV_RTC_H

#include "lib/compiler.h"
#include "lib/types.h"

#include <xen/hvm/save.h>

struct rtc {
    uint8_t reg[RTC_CMOS_SIZE]; /* the time in them counts only while B.SET stops the clock */
    uint8_t index;              /* as last written to 0x70; bit 7 is not ours */
    int64_t wall;               /* UTC ns at boot: set by the caller before each call */
    int64_t offset;             /* seconds that this clock is ahead of that */
    uint64_t ticks;             /* of 32768 Hz: periodic flag is up to date to there */
    int64_t second;             /* update and alarm flags are up to date to there */
    uint32_t owed;              /* periodic interrupts that came while one waited */
    uint32_t owed_most;         /* of these are kept */
};

void rtc_reset(struct rtc *r, int64_t wall, int64_t offset, uint64_t now);
/* False: what the index register points at is not ours. */
bool rtc_ours(const struct rtc *r);
void rtc_select(struct rtc *r, uint8_t index);
uint8_t rtc_read(struct rtc *r, uint64_t now); /* port 0x71, if ours */
void rtc_write(struct rtc *r, uint8_t value, uint64_t now);
void rtc_advance(struct rtc *r, uint64_t now);
uint64_t rtc_next(const struct rtc *r, uint64_t now); /* when a flag may interrupt; DEV_NEVER */
bool rtc_line(const struct rtc *r);                   /* IRQ 8, until register C is read */

void rtc_save(struct rtc *r, struct hvm_hw_rtc *out, uint64_t now);
int __must_check rtc_check(const struct hvm_hw_rtc *in);
void rtc_load(struct rtc *r, const struct hvm_hw_rtc *in, uint64_t now);

#endif
