/* Event channels, timers, and vCPUs that give way to each other on one CPU. */
#include "ops.h"

static evtchn_port_t self, mine, other; /* IPI ports: own, to vCPU 0, to vCPU 1 */
static evtchn_port_t timer;

static evtchn_port_t ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi b = {.vcpu = vcpu};
    MUST(HC(event_channel_op, EVTCHNOP_bind_ipi, &b));
    return b.port;
}

static void send(evtchn_port_t port)
{
    struct evtchn_send s = {port};
    MUST(HC(event_channel_op, EVTCHNOP_send, &s));
}

/* Blocks until @port is pending, and takes that. */
static void take(evtchn_port_t port)
{
    struct sched_poll p = {.nr_ports = 1};
    p.ports.p = &port;
    while (!event_pending(port))
        MUST(HC(sched_op, SCHEDOP_poll, &p));
    event_clear(port);
}

static void send_setup(void)
{
    self = ipi(0);
    event_mask(self, true);
}

static void send_masked(unsigned n)
{
    while (n--) {
        send(self);
        event_clear(self);
    }
}

static void upcall_setup(void)
{
    event_mask(self, false);
    events_on();
}

/* An event for ourselves: the hypervisor calls us back at once. */
static void upcalls(unsigned n)
{
    for (unsigned before = event_count[self]; event_count[self] - before < n;)
        send(self);
}

/* --- ping-pong between two vCPUs on one CPU --- */

static volatile unsigned rounds;

static void pong(void *arg)
{
    for (unsigned i = rounds; i--;) {
        take(other);
        send(mine);
    }
}

static void pair_setup(void)
{
    events_off();
    mine = ipi(0);
    other = ipi(1);
    event_mask(mine, true);
    event_mask(other, true);
}

static void pings(unsigned n)
{
    rounds = n;
    MUST(cpu_run(1, pong, NULL));
    while (n--) {
        send(other);
        take(mine);
    }
    cpu_wait(1);
}

static void yield_other(void *arg)
{
    for (unsigned i = rounds; i--;)
        MUST(HC(sched_op, SCHEDOP_yield, 0));
}

static void yields(unsigned n)
{
    rounds = n;
    MUST(cpu_run(1, yield_other, NULL));
    while (n--)
        MUST(HC(sched_op, SCHEDOP_yield, 0));
    cpu_wait(1);
}

/* --- timers --- */

static void timer_setup(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER, .vcpu = 0};
    MUST(HC(event_channel_op, EVTCHNOP_bind_virq, &b));
    timer = b.port;
    event_mask(timer, true);
    /* What the hypervisor does while idle, it has done then. */
    MUST(HC(set_timer_op, time_now() + 5000000000));
    take(timer);
}

static void timer_set(unsigned n)
{
    while (n--)
        MUST(HC(set_timer_op, time_now() + 1000000000));
    MUST(HC(set_timer_op, 0));
}

static void timer_ticks(unsigned n)
{
    while (n--) {
        MUST(HC(set_timer_op, time_now() + 50000));
        take(timer);
    }
}

const struct op event_ops[] = {
    {"event_send_masked", send_setup, send_masked, 5000, 1},
    {"event_upcall", upcall_setup, upcalls, 5000, 1},
    {"event_ping_pong", pair_setup, pings, 2000, 1},
    {"yield", NULL, yields, 1000, 2},
    {"timer_set", timer_setup, timer_set, 2000, 1},
    {"timer_tick", NULL, timer_ticks, 500, 1},
    {0},
};
