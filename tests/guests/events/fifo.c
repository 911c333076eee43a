/*
 * The FIFO ABI (xen/event_channel.h): control block and array pages, queues by priority in order,
 * LINKED, MASKED and PENDING of a word, refusals, and the way back by reset.
 */
#include "guest.h"
#include "events.h"

static volatile struct evtchn_fifo_control_block *control;
static volatile event_word_t *words;
static uint32_t head[EVTCHN_FIFO_MAX_QUEUES];
static unsigned order[64], taken;

static long op(unsigned cmd, void *arg)
{
    return HC(event_channel_op, cmd, arg);
}

static void consume(unsigned q)
{
    uint32_t port = head[q] ? head[q] : control->head[q], word, next;

    while (port) {
        word = words[port];
        do
            next = word & ~((1u << EVTCHN_FIFO_LINKED) | EVTCHN_FIFO_LINK_MASK);
        while (!__atomic_compare_exchange_n(&words[port], &word, next, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST));
        head[q] = word & EVTCHN_FIFO_LINK_MASK;
        if (word >> EVTCHN_FIFO_PENDING & 1 && !(word >> EVTCHN_FIFO_MASKED & 1)) {
            __atomic_fetch_and(&words[port], ~(1u << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
            event_count[port]++;
            if (taken < 64)
                order[taken++] = port;
        }
        port = head[q];
    }
}

static bool upcall(struct regs *r)
{
    uint32_t ready;

    (void)r;
    vcpu_info(0)->evtchn_upcall_pending = 0;
    while ((ready = __atomic_exchange_n(&control->ready, 0, __ATOMIC_SEQ_CST)))
        while (ready) {
            unsigned q = (unsigned)__builtin_ctz(ready);

            consume(q);
            ready &= ready - 1;
        }
    return true;
}

static void setup(void)
{
    struct evtchn_init_control c = {.control_gfn = 0xfffffffffUL};
    struct evtchn_expand_array ea = {.array_gfn = 0xfffffffffUL};
    uint8_t *page = page_alloc();

    section("FIFO: control block and array");
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_EINVAL);
    c.control_gfn = mfn_of(page);
    c.offset = 4;
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_EINVAL); /* misaligned */
    c.offset = PAGE_SIZE - 8;
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_EINVAL); /* crosses the page */
    c.offset = 0xfffffff8;
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_EINVAL);
    c.offset = 64;
    c.vcpu = 500;
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_ENOENT);
    c.vcpu = 0;
    c.control_gfn = cr3_mfn();
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_EINVAL); /* no page table is writable */
    c.control_gfn = mfn_of(page);
    CHECK_EQ(op(EVTCHNOP_init_control, &c), 0);
    CHECK_EQ(c.link_bits, EVTCHN_FIFO_LINK_BITS);
    CHECK_EQ(op(EVTCHNOP_init_control, &c), -XEN_EINVAL); /* once */
    control = (void *)(page + 64);
    CHECK_EQ(op(EVTCHNOP_expand_array, &ea), -XEN_EINVAL);
    words = page_alloc();
    ea.array_gfn = mfn_of((void *)words);
    CHECK_EQ(op(EVTCHNOP_expand_array, &ea), 0);
}

static uint32_t loop_port(void)
{
    uint32_t p = 0;

    CHECK_EQ(bind_ipi(0, &p), 0);
    event_count[p] = 0;
    return p;
}

static void delivery(void)
{
    uint32_t a = loop_port(), b = loop_port(), c = loop_port();

    section("FIFO: delivery and masks");
    trap_set_hook(ENTRY_EVENT, upcall);
    events_on();
    __atomic_fetch_and(&words[a], ~(1u << EVTCHN_FIFO_MASKED), __ATOMIC_SEQ_CST);
    CHECK_EQ(port_send(a), 0);
    CHECK_EQ(event_count[a], 1);
    CHECK_EQ(words[a], 0);
    __atomic_fetch_or(&words[a], 1u << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST);
    CHECK_EQ(port_send(a), 0);
    CHECK_EQ(event_count[a], 1);
    CHECK_EQ(words[a] >> EVTCHN_FIFO_PENDING & 1, 1);
    CHECK_EQ(port_unmask(a), 0);
    CHECK_EQ(words[a] >> EVTCHN_FIFO_MASKED & 1, 0);
    CHECK_EQ(event_count[a], 2);

    section("FIFO: order and priority");
    port_unmask(b);
    port_unmask(c);
    events_off();
    taken = 0;
    port_send(c);
    port_send(a);
    port_send(b);
    port_send(c); /* linked already: once */
    CHECK_EQ(words[c] >> EVTCHN_FIFO_LINKED & 1, 1);
    CHECK_EQ(words[c] & EVTCHN_FIFO_LINK_MASK, a);
    events_on();
    CHECK_EQ(taken, 3);
    CHECK(order[0] == c && order[1] == a && order[2] == b);
    CHECK_EQ(port_priority(b, EVTCHN_FIFO_PRIORITY_MAX), 0);
    CHECK_EQ(port_priority(c, EVTCHN_FIFO_PRIORITY_MIN), 0);
    CHECK_EQ(port_priority(c, EVTCHN_FIFO_PRIORITY_MIN + 1), -XEN_EINVAL);
    CHECK_EQ(port_priority(~0u, 3), -XEN_EINVAL);
    events_off();
    taken = 0;
    port_send(c);
    port_send(a);
    port_send(b);
    CHECK_EQ(control->ready,
             1u << 0 | 1u << EVTCHN_FIFO_PRIORITY_DEFAULT | 1u << EVTCHN_FIFO_PRIORITY_MIN);
    events_on();
    CHECK(taken == 3 && order[0] == b && order[1] == a && order[2] == c);
    for (int i = 0; i < 1000; i++)
        port_send(a);
    CHECK_EQ(event_count[a], 2 + 2 + 1000);
    /* Closed while linked: the word is clean for the next user of the port. */
    events_off();
    port_send(a);
    CHECK_EQ(port_close(a), 0);
    events_on();
    CHECK_EQ(port_close(b), 0);
    CHECK_EQ(port_close(c), 0);
    a = loop_port();
    CHECK_EQ(words[a] >> EVTCHN_FIFO_PENDING & 1, 0);
}

/* What is in these pages is ours to spoil: the hypervisor must not follow it anywhere. */
static void hostile(void)
{
    uint32_t a = loop_port(), b = loop_port();

    section("FIFO: spoiled words");
    events_off();
    port_send(a);
    for (unsigned i = 0; i < 1024; i++)
        words[i] = 0xffffffff;
    for (int i = 0; i < 100; i++) {
        port_send(a);
        port_send(b);
    }
    for (unsigned i = 0; i < 1024; i++)
        words[i] = i * 0x9e3779b1u;
    for (int i = 0; i < 100; i++) {
        port_send(b);
        port_send(a);
        port_unmask(a);
    }
    for (unsigned i = 0; i < EVTCHN_FIFO_MAX_QUEUES; i++)
        control->head[i] = 0xfffffff0u + i;
    port_send(a);
    CHECK_EQ(port_close(a), 0);
    CHECK_EQ(port_close(b), 0);
}

static void more_ports(void)
{
    uint32_t p = 0, n = 0;
    struct evtchn_expand_array ea = {.array_gfn = mfn_of(page_alloc())};
    long ret;

    section("FIFO: as many ports as there are words");
    while ((ret = alloc_unbound(DOMID_SELF, DOMID_SELF, &p)) == 0 && n < 5000)
        n++;
    print("  %u ports, then %ld\n", n, ret);
    CHECK_IN(ret, -XEN_ENOSPC, 0);
    CHECK(n >= 1000);
    CHECK_IN(op(EVTCHNOP_expand_array, &ea), 0, -XEN_ENOSPC);
}

static void back(void)
{
    struct evtchn_reset reset = {.dom = DOMID_SELF};
    uint32_t p;

    section("back to 2-level by reset");
    CHECK_EQ(op(EVTCHNOP_reset, &reset), 0);
    trap_set_hook(ENTRY_EVENT, NULL);
    for (unsigned i = 0; i < 64; i++)
        shared()->evtchn_pending[i] = 0;
    CHECK_EQ(bind_ipi(0, &p), 0);
    event_mask(p, false);
    event_count[p] = 0;
    events_on();
    CHECK_EQ(port_send(p), 0);
    CHECK_EQ(event_count[p], 1);
    CHECK_EQ(port_close(p), 0);
}

void fifo(void)
{
    events_off();
    setup();
    delivery();
    hostile();
    more_ports();
    back();
}
