/*
 * Time: the clock of struct vcpu_time_info runs forward and agrees with the TSC, timers fire when
 * asked and not before, runstate adds up, the secondary time area and vcpu_info elsewhere.
 */
#include "guest.h"

const char test_name[] = "time";

#define MS 1000000UL

static uint32_t timer_port;
static volatile uint64_t fired_at;

static bool upcall(struct regs *r)
{
    (void)r;
    event_upcall();
    fired_at = time_now();
    return true;
}

static void clock(void)
{
    volatile struct vcpu_time_info *t = &vcpu_info(0)->time;
    uint64_t last = time_now(), first = last, back = 0, tsc = rdtsc(), ns, now;

    section("the clock");
    for (int i = 0; i < 200000; i++) {
        now = time_now();
        back += now < last;
        last = now;
    }
    CHECK_EQ(back, 0);
    CHECK(last > first);
    print("  mul 0x%x shift %d flags %x\n", t->tsc_to_system_mul, t->tsc_shift, t->flags);
    CHECK(first > 1000000 && first < 600000000000UL); /* since boot: seconds, not years */
    /* The same stretch by TSC and by the system's time updates. */
    tsc = rdtsc();
    ns = time_now();
    time_spin(300 * MS);
    uint64_t by_clock = time_now() - ns, dtsc = rdtsc() - tsc;
    uint64_t by_tsc = t->tsc_shift < 0 ? dtsc >> -t->tsc_shift : dtsc << t->tsc_shift;

    by_tsc = (uint64_t)(((unsigned __int128)by_tsc * t->tsc_to_system_mul) >> 32);
    CHECK(by_clock > by_tsc - by_tsc / 100 && by_clock < by_tsc + by_tsc / 100);

    section("wall clock");
    uint64_t wc = (uint64_t)shared()->wc_sec_hi << 32 | shared()->wc_sec;

    CHECK_EQ(shared()->wc_version & 1, 0);
    CHECK(wc > 1262304000UL && wc < 4102444800UL); /* 2010 to 2100 */
    CHECK(shared()->wc_nsec < 1000000000);
}

static void single(void)
{
    struct vcpu_set_singleshot_timer s = {.flags = 0};
    uint64_t at;
    unsigned n;

    section("set_timer_op");
    n = event_count[timer_port];
    at = time_now() + 20 * MS;
    CHECK_EQ(HC(set_timer_op, at), 0);
    CHECK(event_wait(timer_port, n + 1, 2000 * MS));
    CHECK(fired_at >= at);
    CHECK(fired_at < at + 500 * MS); /* an emulated machine shared with others */
    print("  late by %lu us\n", (fired_at - at) / 1000);
    time_spin(30 * MS);
    CHECK_EQ(event_count[timer_port], n + 1); /* once */
    CHECK_EQ(HC(set_timer_op, 1), 0);         /* in the past: at once */
    CHECK(event_wait(timer_port, n + 2, 1000 * MS));
    CHECK_EQ(HC(set_timer_op, time_now() + 50 * MS), 0);
    CHECK_EQ(HC(set_timer_op, 0), 0); /* stops it */
    time_spin(100 * MS);
    CHECK_EQ(event_count[timer_port], n + 2);
    /* Far too far: fires never or at once, but is taken. */
    CHECK_EQ(HC(set_timer_op, 0x7fffffffffffffffUL), 0);
    CHECK_EQ(HC(set_timer_op, 0), 0);
    n = event_count[timer_port];

    section("singleshot timers");
    at = time_now() + 20 * MS;
    s.timeout_abs_ns = at;
    CHECK_EQ(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &s), 0);
    CHECK(event_wait(timer_port, n + 1, 2000 * MS));
    CHECK(fired_at >= at);
    s.timeout_abs_ns = time_now() - 10 * MS;
    s.flags = VCPU_SSHOTTMR_future;
    CHECK_IN(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &s), -XEN_ETIME, 0); /* 0 by newer ones */
    s.timeout_abs_ns = time_now() + 30 * MS;
    s.flags = 0;
    CHECK_EQ(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &s), 0);
    CHECK_EQ(HC(vcpu_op, VCPUOP_stop_singleshot_timer, 0, 0), 0);
    n = event_count[timer_port];
    time_spin(60 * MS);
    CHECK_EQ(event_count[timer_port], n);
    CHECK_EQ(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, BAD_UNMAPPED), -XEN_EFAULT);
    if (cpu_count() > 1)
        CHECK_EQ(HC(vcpu_op, VCPUOP_set_singleshot_timer, 1, &s), -XEN_EINVAL); /* own only */
}

static void periodic(void)
{
    struct vcpu_set_periodic_timer p = {.period_ns = 10 * MS};
    uint64_t start;
    unsigned n;

    section("periodic timers");
    n = event_count[timer_port];
    start = time_now();
    CHECK_EQ(HC(vcpu_op, VCPUOP_set_periodic_timer, 0, &p), 0);
    CHECK(event_wait(timer_port, n + 10, 3000 * MS));
    CHECK(time_now() - start >= 85 * MS); /* ten periods are not over sooner */
    CHECK_EQ(HC(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    time_spin(20 * MS);
    n = event_count[timer_port];
    time_spin(60 * MS);
    CHECK_EQ(event_count[timer_port], n);
    p.period_ns = 1; /* a flood */
    CHECK_EQ(HC(vcpu_op, VCPUOP_set_periodic_timer, 0, &p), -XEN_EINVAL);
    p.period_ns = ~0UL;
    CHECK_IN(HC(vcpu_op, VCPUOP_set_periodic_timer, 0, &p), -XEN_EINVAL, 0);
    HC(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0);
    CHECK_EQ(HC(vcpu_op, VCPUOP_set_periodic_timer, 0, BAD_HYPERVISOR), -XEN_EFAULT);
}

static uint64_t sum(volatile struct vcpu_runstate_info *r)
{
    return r->time[0] + r->time[1] + r->time[2] + r->time[3];
}

static void runstate(void)
{
    static volatile struct vcpu_runstate_info area;
    struct vcpu_runstate_info a, b;
    struct vcpu_register_runstate_memory_area reg;
    uint64_t blocked;
    unsigned n = event_count[timer_port];

    section("runstate");
    CHECK_EQ(HC(vcpu_op, VCPUOP_get_runstate_info, 0, &a), 0);
    CHECK_EQ(a.state, RUNSTATE_running);
    CHECK(a.state_entry_time <= time_now());
    time_spin(20 * MS);
    CHECK_EQ(HC(vcpu_op, VCPUOP_get_runstate_info, 0, &b), 0);
    CHECK(b.time[RUNSTATE_running] >= a.time[RUNSTATE_running] + 5 * MS);
    CHECK(sum(&b) >= sum(&a) + 19 * MS);
    /* Blocked for 50 ms: seen as such. */
    blocked = b.time[RUNSTATE_blocked];
    CHECK_EQ(HC(set_timer_op, time_now() + 50 * MS), 0);
    while (event_count[timer_port] == n)
        HC(sched_op, SCHEDOP_block, 0);
    CHECK_EQ(HC(vcpu_op, VCPUOP_get_runstate_info, 0, &b), 0);
    CHECK(b.time[RUNSTATE_blocked] >= blocked + 30 * MS);
    reg.addr.v = (void *)&area;
    CHECK_EQ(HC(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &reg), 0);
    CHECK_EQ(area.state, RUNSTATE_running);
    CHECK(area.time[RUNSTATE_blocked] >= b.time[RUNSTATE_blocked]);
    n = event_count[timer_port];
    CHECK_EQ(HC(set_timer_op, time_now() + 20 * MS), 0);
    while (event_count[timer_port] == n)
        HC(sched_op, SCHEDOP_block, 0);
    CHECK(area.time[RUNSTATE_blocked] >= b.time[RUNSTATE_blocked] + 10 * MS);
    CHECK(area.state_entry_time > b.state_entry_time);
    /* An area that cannot be written any more does no one harm. */
    reg.addr.v = (void *)BAD_UNMAPPED;
    CHECK_IN(HC(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &reg), 0, -XEN_EFAULT);
    HC(sched_op, SCHEDOP_yield, 0);
    reg.addr.v = (void *)BAD_HYPERVISOR;
    CHECK_EQ(HC(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &reg), -XEN_EFAULT);
    CHECK_EQ(HC(vcpu_op, VCPUOP_get_runstate_info, 0, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(vcpu_op, VCPUOP_get_runstate_info, 500, &a), -XEN_ENOENT);
}

static void areas(void)
{
    static volatile struct vcpu_time_info second;
    struct vcpu_register_time_memory_area t;
    struct vcpu_register_vcpu_info v = {.offset = 128};
    uint8_t *page = page_alloc();
    struct vcpu_info *moved = (void *)(page + 128);
    uint32_t p = 0;

    section("secondary time area");
    t.addr.v = (void *)&second;
    CHECK_EQ(HC(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &t), 0);
    CHECK_EQ(second.tsc_to_system_mul, vcpu_info(0)->time.tsc_to_system_mul);
    uint64_t a = time_now(), b = time_of(&second), c = time_now();

    CHECK(a <= b + 1000 && b <= c + 1000);
    time_spin(1500 * MS); /* past the periodic recalibration */
    a = time_now(), b = time_of(&second), c = time_now();
    CHECK(a <= b + 1000 && b <= c + 1000);
    t.addr.v = (void *)BAD_HYPERVISOR;
    CHECK_EQ(HC(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &t), -XEN_EFAULT);

    section("vcpu_info elsewhere");
    v.mfn = mfn_of(page);
    v.offset = PAGE_SIZE - 32;
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &v)); /* crosses the page */
    v.offset = 0xffffffc0;
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &v));
    v.offset = 128;
    v.mfn = 0xfffffffffUL;
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &v));
    v.mfn = cr3_mfn();
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &v));
    v.mfn = mfn_of(page);
    events_off();
    CHECK_EQ(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &v), 0);
    CHECK_EQ(moved->evtchn_upcall_mask, 1);
    CHECK_EQ(moved->time.tsc_to_system_mul, shared()->vcpu_info[0].time.tsc_to_system_mul);
    vcpu_info_moved(0, moved);
    CHECK_REFUSED(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &v)); /* once per vCPU */
    events_on();
    p = event_count[timer_port];
    CHECK_EQ(HC(set_timer_op, time_now() + 5 * MS), 0);
    CHECK(event_wait(timer_port, p + 1, 1000 * MS));
    time_spin(100 * MS);
    CHECK(time_now() > c);
}

void test_main(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER, .vcpu = 0};

    event_init();
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_virq, &b), 0);
    timer_port = b.port;
    trap_set_hook(ENTRY_EVENT, upcall);
    /* A new vCPU may find its periodic timer running. */
    CHECK_EQ(HC(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    event_clear(timer_port);
    events_on();
    clock();
    single();
    periodic();
    runstate();
    areas();
}
