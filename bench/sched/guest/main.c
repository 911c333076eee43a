/*
 * The guest with which scheduling is measured. Its command line says what it is:
 *   hog      works all the time
 *   sleeper  sleeps until the next millisecond, for ever, and keeps how late it came;
 *   drowsy   until the next fourth, as often as a kernel ticks that has 250 ticks a second
 *   worker   sleeps until the next millisecond and works for 300 us then
 *   thief    works for 900 us, sleeps for 100 us, for ever
 * Work is rounds of an empty loop; what a round takes when nobody interrupts it is measured, so
 * that rounds are time that the guest had (results.h).
 */
#include "guest.h"
#include "../results.h"

const char test_name[] = "sched";

#define MS  1000000UL
#define GAP 100000UL /* ns more than a round takes that no interrupt does */

static struct results *results;
static evtchn_port_t timer;
static uint64_t last; /* TSC at the end of the last round */

static uint64_t ns_of(uint64_t ticks)
{
    const volatile struct vcpu_time_info *t = &vcpu_info(0)->time;

    ticks = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;
    return (uint64_t)(((unsigned __int128)ticks * t->tsc_to_system_mul) >> 32);
}

/* One round; ns since the end of the one before, so that all that a round takes is in it. */
static uint64_t work(void)
{
    unsigned n = 1000;
    uint64_t now, took;

    asm volatile("1: dec %0\n jnz 1b" : "+r"(n));
    now = rdtsc();
    took = ns_of(now - last);
    last = now;
    results->rounds++;
    if (took > results->round_ns + GAP)
        results->gaps++;
    return took;
}

static void calibrate(void)
{
    uint64_t least = MS;

    last = rdtsc();
    work(); /* shorter: what follows the look at the clock is not in it */
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t took = work();

        if (took < least)
            least = took;
    }
    results->round_ns = least;
}

static void work_for(uint64_t ns)
{
    last = rdtsc();
    for (uint64_t n = ns / results->round_ns; n--;)
        work();
}

static void sleep_until(uint64_t when)
{
    struct vcpu_set_singleshot_timer t = {.timeout_abs_ns = when};
    unsigned before = event_count[timer];

    HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &t);
    while (event_count[timer] == before) {
        HC(sched_op, SCHEDOP_block, 0); /* lets events in */
        events_off();
    }
}

static void keep(uint64_t late)
{
    if (results->skip) {
        results->skip--;
        return;
    }
    results->wakes++;
    results->late[late_slot(late)]++;
    if (late > results->longest)
        results->longest = late;
}

/* Every @period, for ever. Those that are over when it comes to sleep are missed. */
static void wake_and_work(uint64_t period, uint64_t ns)
{
    uint64_t when = time_now() + period;

    for (;; when += period) {
        for (; when <= time_now(); when += period)
            results->missed++;
        sleep_until(when);
        keep(time_now() - when);
        work_for(ns);
    }
}

static void start(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER, .vcpu = 0};

    /* As Linux does: the ABI starts with a tick of the hypervisor's. */
    HC(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0);
    event_init();
    HC(event_channel_op, EVTCHNOP_bind_virq, &b);
    timer = b.port;
    events_off();

    results = page_alloc();
    calibrate();
    results->magic = RESULTS_MAGIC;
    shared()->arch.pfn_to_mfn_frame_list_list = mfn_of(results);
}

void test_main(void)
{
    start();
    if (has_argument("sleeper"))
        wake_and_work(MS, 0);
    if (has_argument("drowsy"))
        wake_and_work(4 * MS, 0);
    if (has_argument("worker"))
        wake_and_work(MS, 300000);
    while (has_argument("thief")) {
        work_for(900000);
        sleep_until(time_now() + 100000);
    }
    for (;;)
        work();
}
