/*
 * sched_op: yielding, blocking with and without something pending, polling with and without a
 * timeout, watchdogs, what is refused; and at the very end the shutdown itself, whose reason the
 * hypervisor prints.
 */
#include "guest.h"

const char test_name[] = "sched";

#define MS 1000000UL

static uint32_t timer_port, loop_port;

static long poll(uint32_t *ports, unsigned n, uint64_t timeout)
{
    struct sched_poll p = {.nr_ports = n, .timeout = timeout};

    p.ports.p = ports;
    return HC(sched_op, SCHEDOP_poll, &p);
}

static long send(uint32_t port)
{
    struct evtchn_send s = {.port = port};

    return HC(event_channel_op, EVTCHNOP_send, &s);
}

static void yield_block(void)
{
    unsigned n = event_count[timer_port];
    uint64_t start;

    section("yield and block");
    for (int i = 0; i < 100; i++)
        if (HC(sched_op, SCHEDOP_yield, 0))
            CHECK(!"yield");
    events_off();
    start = time_now();
    CHECK_EQ(HC(set_timer_op, start + 30 * MS), 0);
    CHECK_EQ(HC(sched_op, SCHEDOP_block, 0), 0); /* enables delivery itself */
    CHECK_EQ(event_count[timer_port], n + 1);
    CHECK(time_now() >= start + 30 * MS);
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_mask, 0);
    /* With one pending already it does not block. */
    events_off();
    CHECK_EQ(send(loop_port), 0);
    n = event_count[loop_port];
    CHECK_EQ(HC(sched_op, SCHEDOP_block, 0), 0);
    CHECK_EQ(event_count[loop_port], n + 1);
    /* The old form of the call. */
    CHECK_IN(HC(sched_op_compat, SCHEDOP_yield, 0), 0, -XEN_ENOSYS);
}

static void polls(void)
{
    uint32_t ports[2] = {loop_port, timer_port};
    static uint32_t many[200];
    uint64_t start = time_now();

    section("poll");
    events_off();
    CHECK_EQ(poll(ports, 1, start + 30 * MS), 0); /* times out */
    CHECK(time_now() >= start + 30 * MS);
    CHECK_EQ(send(loop_port), 0);
    CHECK_EQ(poll(ports, 1, 0), 0); /* pending: at once, and left pending */
    CHECK(event_pending(loop_port));
    event_clear(loop_port);
    HC(set_timer_op, time_now() + 20 * MS);
    CHECK_EQ(poll(ports, 2, time_now() + 5000 * MS), 0);
    CHECK(event_pending(timer_port));
    CHECK(time_now() < start + 4000 * MS);
    event_clear(timer_port);
    /* A masked port wakes a poller too. */
    event_mask(timer_port, true);
    HC(set_timer_op, time_now() + 20 * MS);
    start = time_now();
    CHECK_EQ(poll(ports, 2, start + 5000 * MS), 0);
    CHECK(event_pending(timer_port));
    CHECK(time_now() < start + 4000 * MS);
    event_clear(timer_port);
    event_mask(timer_port, false);
    CHECK_EQ(poll(ports, 1, 1), 0); /* in the past */
    CHECK_EQ(poll(NULL, 0, time_now() + 10 * MS), 0);

    section("poll refusals");
    CHECK_EQ(poll(many, 129, 0), -XEN_EINVAL); /* 128 at most */
    CHECK_EQ(poll((void *)BAD_HYPERVISOR, 1, 1), -XEN_EFAULT);
    CHECK_EQ(poll((void *)BAD_UNMAPPED, 1, 1), -XEN_EFAULT);
    ports[0] = 0xffffffff;
    CHECK_EQ(poll(ports, 1, 1), -XEN_EINVAL);
    ports[0] = 4095;
    CHECK_EQ(poll(ports, 1, 1), -XEN_EINVAL);
    vcpu_info(0)->evtchn_upcall_pending = 0;
    events_on();
}

static void watchdogs(void)
{
    struct sched_watchdog w = {.id = 0, .timeout = 100};
    long id, ids[3];

    section("watchdogs");
    id = HC(sched_op, SCHEDOP_watchdog, &w);
    CHECK(id > 0);
    w.id = (uint32_t)id;
    w.timeout = 200;
    CHECK_EQ(HC(sched_op, SCHEDOP_watchdog, &w), 0);
    w.timeout = 0;
    CHECK_EQ(HC(sched_op, SCHEDOP_watchdog, &w), 0);
    CHECK_EQ(HC(sched_op, SCHEDOP_watchdog, &w), -XEN_EINVAL); /* not in use */
    w = (struct sched_watchdog){.id = 77, .timeout = 5};
    CHECK_EQ(HC(sched_op, SCHEDOP_watchdog, &w), -XEN_EINVAL);
    for (int i = 0; i < 3; i++) { /* two per domain */
        w = (struct sched_watchdog){.id = 0, .timeout = 1000};
        ids[i] = (int)HC(sched_op, SCHEDOP_watchdog, &w); /* stock: 32 bits of it */
    }
    CHECK(ids[0] > 0 && ids[1] > 0 && ids[0] != ids[1]);
    CHECK_EQ(ids[2], -XEN_ENOSPC);
    for (int i = 0; i < 2; i++) {
        w = (struct sched_watchdog){.id = (uint32_t)ids[i], .timeout = 0};
        CHECK_EQ(HC(sched_op, SCHEDOP_watchdog, &w), 0);
    }
    CHECK_EQ(HC(sched_op, SCHEDOP_watchdog, BAD_UNMAPPED), -XEN_EFAULT);
}

static void refusals(void)
{
    struct sched_remote_shutdown rs = {.domain_id = 1234, .reason = SHUTDOWN_poweroff};
    struct sched_pin_override pin = {.pcpu = 0};
    struct sched_shutdown code = {.reason = SHUTDOWN_reboot};

    section("refusals");
    CHECK_EQ(HC(sched_op, 99, 0), -XEN_ENOSYS);
    CHECK_EQ(HC(sched_op, SCHEDOP_shutdown, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(sched_op, SCHEDOP_poll, BAD_HYPERVISOR), -XEN_EFAULT);
    CHECK_EQ(HC(sched_op, SCHEDOP_remote_shutdown, &rs), -XEN_ESRCH);
    CHECK_EQ(HC(sched_op, SCHEDOP_remote_shutdown, BAD_UNMAPPED), -XEN_EFAULT);
    /* The hardware domain may pin itself for a while; Trilby refuses that (docs/support.md). */
    long ret = HC(sched_op, SCHEDOP_pin_override, &pin);

    if (!is_trilby() || ret != -XEN_ENOSYS) {
        CHECK_EQ(ret, 0);
        CHECK_EQ(HC(sched_op, SCHEDOP_pin_override, &pin), -XEN_EBUSY);
        pin.pcpu = -1;
        CHECK_EQ(HC(sched_op, SCHEDOP_pin_override, &pin), 0);
        CHECK_EQ(HC(sched_op, SCHEDOP_pin_override, &pin), -XEN_EINVAL);
        pin.pcpu = 100000;
        CHECK_REFUSED(HC(sched_op, SCHEDOP_pin_override, &pin));
    }
    CHECK_EQ(HC(sched_op, SCHEDOP_shutdown_code, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(sched_op, SCHEDOP_shutdown_code, &code), 0); /* kept for the end */
}

void test_main(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER, .vcpu = 0};
    struct evtchn_bind_ipi i = {.vcpu = 0};

    event_init();
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_virq, &b), 0);
    timer_port = b.port;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_ipi, &i), 0);
    loop_port = i.port;
    CHECK_EQ(HC(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    events_on();
    yield_block();
    polls();
    watchdogs();
    refusals();
}
