/*
 * Event channels: each way to get a port, what status says of it, sending and taking, masks,
 * closing, limits and refusals by the 2-level ABI; fifo.c then changes to FIFO and asks again.
 */
#include "guest.h"
#include "events.h"

const char test_name[] = "events";

static long op(unsigned cmd, void *arg)
{
    return HC(event_channel_op, cmd, arg);
}

long alloc_unbound(uint16_t dom, uint16_t remote, uint32_t *port)
{
    struct evtchn_alloc_unbound a = {.dom = dom, .remote_dom = remote};
    long ret = op(EVTCHNOP_alloc_unbound, &a);

    *port = a.port;
    return ret;
}

long bind_interdomain(uint16_t remote, uint32_t remote_port, uint32_t *port)
{
    struct evtchn_bind_interdomain a = {.remote_dom = remote, .remote_port = remote_port};
    long ret = op(EVTCHNOP_bind_interdomain, &a);

    *port = a.local_port;
    return ret;
}

long bind_ipi(uint32_t vcpu, uint32_t *port)
{
    struct evtchn_bind_ipi a = {.vcpu = vcpu};
    long ret = op(EVTCHNOP_bind_ipi, &a);

    *port = a.port;
    return ret;
}

long bind_virq(uint32_t virq, uint32_t vcpu, uint32_t *port)
{
    struct evtchn_bind_virq a = {.virq = virq, .vcpu = vcpu};
    long ret = op(EVTCHNOP_bind_virq, &a);

    *port = a.port;
    return ret;
}

long port_close(uint32_t port)
{
    struct evtchn_close a = {.port = port};

    return op(EVTCHNOP_close, &a);
}

long port_send(uint32_t port)
{
    struct evtchn_send a = {.port = port};

    return op(EVTCHNOP_send, &a);
}

long port_unmask(uint32_t port)
{
    struct evtchn_unmask a = {.port = port};

    return op(EVTCHNOP_unmask, &a);
}

long port_bind_vcpu(uint32_t port, uint32_t vcpu)
{
    struct evtchn_bind_vcpu a = {.port = port, .vcpu = vcpu};

    return op(EVTCHNOP_bind_vcpu, &a);
}

long port_priority(uint32_t port, uint32_t priority)
{
    struct evtchn_set_priority a = {.port = port, .priority = priority};

    return op(EVTCHNOP_set_priority, &a);
}

static struct evtchn_status status_of(uint32_t port)
{
    struct evtchn_status s = {.dom = DOMID_SELF, .port = port};

    if (op(EVTCHNOP_status, &s))
        s.status = ~0u;
    return s;
}

static void loopback(void)
{
    uint32_t a, b;
    struct evtchn_status s;

    section("a loop of two ports, masked and not");
    events_off();
    CHECK_EQ(alloc_unbound(DOMID_SELF, DOMID_SELF, &a), 0);
    CHECK(a != 0);
    s = status_of(a);
    CHECK_EQ(s.status, EVTCHNSTAT_unbound);
    CHECK_EQ(s.vcpu, 0);
    CHECK_EQ(s.u.unbound.dom, 0);
    CHECK_EQ(port_send(a), 0); /* to no one yet: not an error */
    CHECK_EQ(bind_interdomain(DOMID_SELF, a, &b), 0);
    CHECK(b != a);
    s = status_of(a);
    CHECK_EQ(s.status, EVTCHNSTAT_interdomain);
    CHECK_EQ(s.u.interdomain.dom, 0);
    CHECK_EQ(s.u.interdomain.port, b);
    CHECK(event_pending(b)); /* binding always signals the binder's end */
    event_clear(b);
    CHECK_EQ(bind_interdomain(DOMID_SELF, a, &b) < 0, 1); /* taken */
    b = status_of(a).u.interdomain.port;

    /* With delivery off an event stays pending. */
    events_off();
    event_count[a] = event_count[b] = 0;
    vcpu_info(0)->evtchn_upcall_pending = 0;
    vcpu_info(0)->evtchn_pending_sel = 0;
    CHECK_EQ(port_send(b), 0);
    CHECK(event_pending(a));
    CHECK(!event_pending(b));
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_pending, 1);
    CHECK_EQ(vcpu_info(0)->evtchn_pending_sel, 1UL << (a / 64));
    CHECK_EQ(event_count[a], 0);
    events_on();
    CHECK_EQ(event_count[a], 1);
    CHECK(!event_pending(a));
    CHECK_EQ(port_send(a), 0); /* now at once */
    CHECK_EQ(event_count[b], 1);
    /* A masked port becomes pending without an upcall; unmask brings it. */
    event_mask(b, true);
    CHECK_EQ(port_send(a), 0);
    CHECK_EQ(port_send(a), 0);
    CHECK(event_pending(b));
    CHECK_EQ(event_count[b], 1);
    CHECK_EQ(port_unmask(b), 0);
    CHECK_EQ(event_count[b], 2);
    CHECK_EQ(shared()->evtchn_mask[b / 64] >> (b % 64) & 1, 0);
    CHECK_EQ(port_unmask(b), 0); /* nothing pending: nothing comes */
    CHECK_EQ(event_count[b], 2);
    /* Many: none lost while each is taken. */
    for (int i = 0; i < 1000; i++)
        port_send(a);
    CHECK_EQ(event_count[b], 1002);

    section("closing");
    CHECK_EQ(port_close(b), 0);
    CHECK_EQ(status_of(b).status, EVTCHNSTAT_closed);
    CHECK_EQ(status_of(a).status, EVTCHNSTAT_unbound);
    CHECK_EQ(bind_interdomain(DOMID_SELF, a, &b), 0); /* and again */
    CHECK_EQ(port_close(a), 0);
    CHECK_EQ(port_close(b), 0);
    CHECK_REFUSED(port_close(a));
    CHECK_REFUSED(port_close(b));
    CHECK_REFUSED(port_send(a));
}

static void virqs(void)
{
    uint32_t timer, debug, con, other;
    struct evtchn_status s;

    section("virtual interrupts");
    CHECK_EQ(bind_virq(VIRQ_TIMER, 0, &timer), 0);
    s = status_of(timer);
    CHECK_EQ(s.status, EVTCHNSTAT_virq);
    CHECK_EQ(s.u.virq, VIRQ_TIMER);
    CHECK_EQ(bind_virq(VIRQ_TIMER, 0, &other), -XEN_EEXIST);
    CHECK_EQ(bind_virq(VIRQ_DEBUG, 0, &debug), 0);
    CHECK_EQ(HC(set_timer_op, time_now() + 1000000), 0);
    CHECK(event_wait(timer, 1, 1000000000));
    CHECK_EQ(port_send(timer), -XEN_EINVAL); /* no one may send these */
    if (is_dom0()) {
        CHECK_EQ(bind_virq(VIRQ_CONSOLE, 0, &con), 0);
        CHECK_EQ(status_of(con).u.virq, VIRQ_CONSOLE);
        CHECK_EQ(port_close(con), 0);
    }
    CHECK_REFUSED(bind_virq(VIRQ_DOM_EXC, 1, &other)); /* global ones start on vCPU 0 */
    CHECK_REFUSED(bind_virq(NR_VIRQS, 0, &other));
    CHECK_REFUSED(bind_virq(~0u, 0, &other));
    CHECK_EQ(bind_virq(VIRQ_TIMER, 500, &other), -XEN_ENOENT);
    CHECK_REFUSED(port_bind_vcpu(timer, 1)); /* bound to its vCPU for life */
    CHECK_EQ(port_close(timer), 0);
    CHECK_EQ(port_close(debug), 0);
    CHECK_EQ(bind_virq(VIRQ_TIMER, 0, &timer), 0);
    CHECK_EQ(port_close(timer), 0);
}

static void ipis(void)
{
    uint32_t p, q;
    struct evtchn_status s;

    section("interprocessor interrupts");
    CHECK_EQ(bind_ipi(0, &p), 0);
    s = status_of(p);
    CHECK_EQ(s.status, EVTCHNSTAT_ipi);
    CHECK_EQ(s.vcpu, 0);
    event_count[p] = 0;
    CHECK_EQ(port_send(p), 0);
    CHECK_EQ(event_count[p], 1);
    CHECK_REFUSED(port_bind_vcpu(p, 0)); /* fixed */
    CHECK_EQ(bind_ipi(500, &q), -XEN_ENOENT);
    CHECK_EQ(bind_ipi(~0u, &q), -XEN_ENOENT);
    if (cpu_count() > 1) {
        CHECK_EQ(bind_ipi(1, &q), 0);
        CHECK_EQ(status_of(q).vcpu, 1);
        CHECK_EQ(port_send(q), 0);
        CHECK(event_pending(q));
        CHECK_EQ(port_close(q), 0);
        CHECK_EQ(alloc_unbound(DOMID_SELF, DOMID_SELF, &q), 0);
        CHECK(!event_pending(q)); /* a port used again starts clean */
        CHECK_EQ(port_bind_vcpu(q, 1), 0);
        CHECK_EQ(status_of(q).vcpu, 1);
        CHECK_EQ(port_bind_vcpu(q, 0), 0);
        CHECK_EQ(port_bind_vcpu(q, 500), -XEN_ENOENT);
        CHECK_EQ(port_close(q), 0);
    }
    CHECK_EQ(port_close(p), 0);
}

static void refusals(void)
{
    uint32_t p, q;
    struct evtchn_status s = {.dom = 1234, .port = 1};
    struct evtchn_bind_pirq pirq = {.pirq = 0xffffffff};
    struct evtchn_reset reset = {.dom = 1234};

    section("refusals");
    CHECK_EQ(alloc_unbound(1234, DOMID_SELF, &p), -XEN_ESRCH);
    CHECK_EQ(alloc_unbound(DOMID_SELF, 1234, &p), 0);           /* for a domain yet to come */
    CHECK_EQ(bind_interdomain(DOMID_SELF, p, &q), -XEN_EINVAL); /* kept for another */
    CHECK_EQ(port_close(p), 0);
    CHECK_EQ(bind_interdomain(1234, 1, &q), -XEN_ESRCH);
    CHECK_EQ(bind_interdomain(DOMID_SELF, 0, &q), -XEN_EINVAL);
    CHECK_EQ(bind_interdomain(DOMID_SELF, 4095, &q), -XEN_EINVAL);
    CHECK_EQ(bind_interdomain(DOMID_SELF, ~0u, &q), -XEN_EINVAL);
    CHECK_EQ(port_send(0), -XEN_EINVAL);
    CHECK_EQ(port_send(4095), -XEN_EINVAL);
    CHECK_EQ(port_send(4096), -XEN_EINVAL);
    CHECK_EQ(port_send(~0u), -XEN_EINVAL);
    CHECK_EQ(port_close(0), -XEN_EINVAL);
    CHECK_EQ(port_close(~0u), -XEN_EINVAL);
    CHECK_EQ(port_unmask(~0u), -XEN_EINVAL);
    CHECK_EQ(port_bind_vcpu(~0u, 0), -XEN_EINVAL);
    CHECK_EQ(op(EVTCHNOP_status, &s), -XEN_ESRCH);
    s.dom = DOMID_SELF;
    s.port = ~0u;
    CHECK_EQ(op(EVTCHNOP_status, &s), -XEN_EINVAL);
    CHECK_EQ(op(EVTCHNOP_bind_pirq, &pirq), -XEN_EINVAL);
    CHECK_EQ(op(EVTCHNOP_reset, &reset), -XEN_ESRCH);
    CHECK_EQ(op(99, &s), -XEN_ENOSYS);
    for (unsigned cmd = 0; cmd <= 13; cmd++) {
        CHECK_EQ(op(cmd, (void *)BAD_UNMAPPED), -XEN_EFAULT);
        CHECK_EQ(op(cmd, (void *)BAD_HYPERVISOR), -XEN_EFAULT);
        CHECK_EQ(op(cmd, (void *)BAD_NONCANONICAL), -XEN_EFAULT);
    }
    /* Without FIFO there are no priorities and no arrays. */
    CHECK_EQ(alloc_unbound(DOMID_SELF, DOMID_SELF, &p), 0);
    CHECK_EQ(port_priority(p, 3), -XEN_ENOSYS);
    struct evtchn_expand_array ea = {.array_gfn = mfn_of(page_alloc())};

    CHECK_IN(op(EVTCHNOP_expand_array, &ea), -XEN_EOPNOTSUPP, -XEN_ENOSYS);
    CHECK_EQ(port_close(p), 0);
}

static void exhaustion(void)
{
    uint32_t p, n = 0;
    long ret;
    struct evtchn_reset reset = {.dom = DOMID_SELF};

    section("all ports, and reset");
    while ((ret = alloc_unbound(DOMID_SELF, DOMID_SELF, &p)) == 0)
        n++;
    print("  %u ports, then %ld\n", n, ret);
    CHECK_EQ(ret, -XEN_ENOSPC);
    CHECK(n >= 1000 && n < 4096);
    CHECK_EQ(port_close(p ? p : 77), 0);
    CHECK_EQ(alloc_unbound(DOMID_SELF, DOMID_SELF, &p), 0);
    CHECK_EQ(op(EVTCHNOP_reset, &reset), 0);
    CHECK_EQ(status_of(77).status, EVTCHNSTAT_closed);
    CHECK_EQ(alloc_unbound(DOMID_SELF, DOMID_SELF, &p), 0);
    CHECK_EQ(port_close(p), 0);
}

void test_main(void)
{
    event_init();
    events_on();
    loopback();
    virqs();
    ipis();
    refusals();
    exhaustion();
    fifo();
}
