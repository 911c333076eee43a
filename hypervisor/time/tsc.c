/*
 * System time: the TSC, scaled by numbers that are fixed while booting and the same for all, so
 * that guests may compute it themselves from what struct vcpu_time_info gives them.
 *
 * Whether that is right is checked: each CPU that starts compares its TSC with CPU 0's and, should
 * it differ, sets it; once a second the TSC is compared with the platform clock. A CPU without the
 * invariant-TSC bit (emulators leave it out) is trusted as far as the checks go.
 */
#include "console/console.h"
#include "cpu/cpu.h"
#include "time/internal.h"

#define NS_PER_SECOND 1000000000UL
#define MSR_TSC       0x10

static struct tsc_scale scale = {.mul = 1U << 31, .shift = 1};
static uint64_t tsc_hz = NS_PER_SECOND;
static bool disagree; /* [a] some CPU's TSC does not fit */

/* --- scaling --- */

/* mul / 2^32 * 2^shift = 10^9 / hz, mul about 2^31 or more. */
void tsc_set_frequency(uint64_t hz, uint64_t base_tsc)
{
    int8_t shift = 0;
    uint64_t rate = hz;
    while (rate > 2 * NS_PER_SECOND) {
        rate >>= 1;
        shift--;
    }
    while (rate <= NS_PER_SECOND) {
        rate <<= 1;
        shift++;
    }
    /* 10^9 << (32 - shift) / hz, the dividend in two words */
    unsigned bits = (unsigned)(32 - shift);
    uint64_t high = bits < 64 ? NS_PER_SECOND >> (64 - bits) : NS_PER_SECOND << (bits - 64);
    uint64_t low = bits < 64 ? NS_PER_SECOND << bits : 0;
    scale.mul = (uint32_t)divide_128(high, low, hz);
    scale.shift = shift;
    scale.base_tsc = base_tsc;
    scale.base_ns = 0;
    tsc_hz = hz;
}

ns_t time_from_tsc(uint64_t tsc)
{
    int64_t delta = (int64_t)(tsc - scale.base_tsc);
    if (delta < 0) /* another CPU's TSC, a hair behind */
        return scale.base_ns;
    uint64_t scaled =
        scale.shift < 0 ? (uint64_t)delta >> -scale.shift : (uint64_t)delta << scale.shift;
    return scale.base_ns + (uint64_t)((__uint128_t)scaled * scale.mul >> 32);
}

/* The first TSC value at which time_from_tsc() is @when or later. */
uint64_t time_to_tsc(ns_t when)
{
    if (when <= scale.base_ns)
        return scale.base_tsc;
    uint64_t ns = when - scale.base_ns;
    if (ns >> 62)
        return ~0UL;
    uint64_t high = ns >> 32, low = ns << 32;
    /* the smallest x with x * mul >> 32 >= ns is the quotient, rounded up */
    low += scale.mul - 1;
    high += low < scale.mul - 1;
    uint64_t scaled = divide_128(high, low, scale.mul);
    if (scale.shift < 0)
        return scale.base_tsc + (scaled << -scale.shift);
    return scale.base_tsc + ((scaled + (1UL << scale.shift) - 1) >> scale.shift);
}

ns_t time_now(void)
{
    return time_from_tsc(rdtsc());
}

const struct tsc_scale *time_scale(void)
{
    return &scale;
}

uint64_t time_tsc_khz(void)
{
    return tsc_hz / 1000;
}

bool time_tsc_stable(void)
{
    return !READ_ONCE(disagree);
}

void time_busy_wait(ns_t delay)
{
    ns_t end = time_now() + delay;
    while (time_now() < end) {
        spin_poll();
        cpu_pause();
    }
}

#ifndef HOST_TEST
void __init time_init(void)
{
    source_init();
    uint64_t hz = source_calibrate_tsc();
    tsc_set_frequency(hz, rdtsc());
    wallclock_init();
    log_info("time: TSC %lu.%03lu MHz by %s%s", hz / 1000000, hz / 1000 % 1000, time_source_name(),
             cpu_features.invtsc ? ", invariant" : "");
}

void time_init_cpu(void)
{
    timer_init_cpu();
    if (this_cpu()->id == 0)
        tsc_watch_start();
    else
        tsc_check_cpu();
}

/* --- agreement between CPUs --- */

#define ROUNDS 16

/*
 * CPU 0's side, called from the wait loop in which it awaits the new CPU: it answers each question
 * with its TSC. Where that lies between the asker's TSC before and after, the two agree as far as
 * anybody can tell.
 */
static struct {
    unsigned asked, answered; /* [a] rounds */
    uint64_t tsc;
} exchange;

static void answer_rounds(void *arg __unused)
{
    for (unsigned round = 1; round <= ROUNDS; round++) {
        while (__atomic_load_n(&exchange.asked, __ATOMIC_ACQUIRE) < round)
            cpu_pause();
        exchange.tsc = rdtsc();
        __atomic_store_n(&exchange.answered, round, __ATOMIC_RELEASE);
    }
}

/* How much CPU 0's TSC is ahead beyond doubt; 0 when they agree. */
static int64_t measure_offset(void)
{
    int64_t least = INT64_MIN, most = INT64_MAX; /* what each round allows */
    const struct cpu_mask first = {{1}};
    exchange.asked = exchange.answered = 0;
    ipi_call(&first, answer_rounds, NULL, false);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        uint64_t before = rdtsc();
        __atomic_store_n(&exchange.asked, round, __ATOMIC_RELEASE);
        while (__atomic_load_n(&exchange.answered, __ATOMIC_ACQUIRE) < round)
            cpu_pause();
        uint64_t after = rdtsc();
        least = max(least, (int64_t)(exchange.tsc - after));
        most = min(most, (int64_t)(exchange.tsc - before));
    }
    return least > 0 ? least : most < 0 ? most : 0;
}

void tsc_check_cpu(void)
{
    int64_t offset = measure_offset();
    if (offset && wrmsr_safe(MSR_TSC, rdtsc() + (uint64_t)offset) == 0)
        offset = measure_offset();
    if (!offset)
        return;
    WRITE_ONCE(disagree, true);
    log_warn("CPU %u: its TSC is off CPU 0's by %ld", this_cpu()->id, -offset);
}

/* --- agreement with the platform clock --- */

#define WATCH_PERIOD SECONDS(1)

static struct timer watch_timer;

static void watch(void *arg __unused)
{
    static ns_t last;
    static int64_t drift, reported = MILLISECONDS(10);
    ns_t now = time_now(), platform;
    bool counts = source_elapsed(&platform);
    /* After a gap (a stopped emulator) the clock may have wrapped: that second does not count. */
    if (counts && last && now - last < 2 * WATCH_PERIOD && platform < 2 * WATCH_PERIOD) {
        drift += (int64_t)(now - last) - (int64_t)platform;
        int64_t size = drift < 0 ? -drift : drift;
        if (size > reported) {
            log_warn("time: the TSC has drifted by %ld us from the %s", drift / 1000,
                     time_source_name());
            reported = size * 2;
        }
    }
    last = now;
    timer_set(&watch_timer, now + WATCH_PERIOD);
}

void tsc_watch_start(void)
{
    timer_init(&watch_timer, watch, NULL, 0);
    timer_set(&watch_timer, time_now() + WATCH_PERIOD);
}
#endif
