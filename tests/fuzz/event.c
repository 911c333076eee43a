/* SOURCES: event/event.c event/two_level.c event/fifo.c event/virq.c event/op.c */
/* SOURCES: event/pirq.c hypercall/permission.c mm/page.c mm/page_type.c lib/bitmap.c */
/* SOURCES: lib/spinlock.c fake/cpu.c fake/alloc.c fake/domain.c fake/guest.c fake/irq.c */
/*
 * Event channels of three domains against a plain model of ports: who may bind, close and send
 * what, and which pending bits that leaves. Two-level delivery; a FIFO switch-over at the end,
 * after which only the books are checked.
 */
#include "fuzz.h"

#include "event/internal.h"
#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "fake/irq.h"
#include "hypercall/table.h"

struct cpu *this_cpu(void)
{
    return &fake_cpu[0];
}

enum { DOMAINS = 3, PORTS = 24, VCPUS = 2 };
enum kind { FREE, UNBOUND, BOUND, VIRQ, IPI };

static struct {
    enum kind kind;
    unsigned remote, remote_port, virq, vcpu;
    bool pending;
} model[DOMAINS][PORTS];
static struct domain *domain[DOMAINS];

static long op(unsigned d, unsigned cmd, void *arg)
{
    fake_current(domain[d]->vcpu[0]);
    return hc_event_channel_op(cmd, (uint64_t)arg);
}

/* The port that the next allocation gets; PORTS: beyond what the model follows. */
static unsigned lowest_free(unsigned d)
{
    unsigned port = 1;
    while (port < PORTS && model[d][port].kind != FREE)
        port++;
    return port;
}

static bool privileged(unsigned d)
{
    return d == 0;
}

static void alloc(unsigned d)
{
    unsigned target = take8() % DOMAINS, remote = take8() % DOMAINS, port = lowest_free(target);
    struct evtchn_alloc_unbound a = {.dom = domain[target]->id, .remote_dom = domain[remote]->id};
    if (port == PORTS)
        return;
    long rc = op(d, EVTCHNOP_alloc_unbound, &a);
    CHECK((rc == 0) == (target == d || privileged(d)));
    if (rc)
        return;
    CHECK(a.port == port);
    model[target][port] = (__typeof__(model[0][0])){.kind = UNBOUND, .remote = remote};
}

static void bind(unsigned d)
{
    unsigned remote = take8() % DOMAINS, there = take8() % PORTS, port = lowest_free(d);
    struct evtchn_bind_interdomain b = {.remote_dom = domain[remote]->id, .remote_port = there};
    if (port == PORTS)
        return;
    bool ok = model[remote][there].kind == UNBOUND && model[remote][there].remote == d;
    CHECK((op(d, EVTCHNOP_bind_interdomain, &b) == 0) == ok);
    if (!ok)
        return;
    CHECK(b.local_port == port);
    model[d][port] = (__typeof__(model[0][0])){
        .kind = BOUND, .remote = remote, .remote_port = there, .pending = true};
    model[remote][there].kind = BOUND;
    model[remote][there].remote = d;
    model[remote][there].remote_port = port;
}

static void bind_ipi(unsigned d)
{
    unsigned port = lowest_free(d);
    struct evtchn_bind_ipi b = {.vcpu = take8() % (VCPUS + 1)};
    if (port == PORTS)
        return;
    CHECK((op(d, EVTCHNOP_bind_ipi, &b) == 0) == (b.vcpu < VCPUS));
    if (b.vcpu < VCPUS)
        model[d][port] = (__typeof__(model[0][0])){.kind = IPI, .vcpu = b.vcpu};
}

static void bind_virq(unsigned d)
{
    unsigned port = lowest_free(d);
    struct evtchn_bind_virq b = {.virq = take8() % 26, .vcpu = take8() % VCPUS};
    bool ok = b.virq < NR_VIRQS && (!virq_is_global(b.virq) || b.vcpu == 0);
    if (port == PORTS)
        return;
    for (unsigned i = 0; i < PORTS; i++)
        if (model[d][i].kind == VIRQ && model[d][i].virq == b.virq &&
            (virq_is_global(b.virq) || model[d][i].vcpu == b.vcpu))
            ok = false;
    CHECK((op(d, EVTCHNOP_bind_virq, &b) == 0) == ok);
    if (ok)
        model[d][port] = (__typeof__(model[0][0])){.kind = VIRQ, .virq = b.virq, .vcpu = b.vcpu};
}

static void forget(unsigned d, unsigned port)
{
    unsigned remote = model[d][port].remote, there = model[d][port].remote_port;
    if (model[d][port].kind == BOUND) {
        model[remote][there].kind = UNBOUND;
        model[remote][there].remote = d;
    }
    model[d][port].kind = FREE;
    model[d][port].pending = false;
}

static void close_port(unsigned d)
{
    struct evtchn_close c = {take8() % PORTS};
    bool ok = model[d][c.port].kind != FREE;
    CHECK((op(d, EVTCHNOP_close, &c) == 0) == ok);
    if (ok)
        forget(d, c.port);
}

static void send(unsigned d)
{
    struct evtchn_send s = {take8() % PORTS};
    enum kind kind = model[d][s.port].kind;
    CHECK((op(d, EVTCHNOP_send, &s) == 0) == (kind == BOUND || kind == IPI || kind == UNBOUND));
    if (kind == BOUND)
        model[model[d][s.port].remote][model[d][s.port].remote_port].pending = true;
    else if (kind == IPI)
        model[d][s.port].pending = true;
}

static void raise_virq(unsigned d)
{
    unsigned virq = take8() % 26, vcpu = take8() % VCPUS;
    if (virq >= NR_VIRQS || virq_is_global(virq))
        return;
    event_send_virq(domain[d]->vcpu[vcpu], virq);
    for (unsigned i = 0; i < PORTS; i++)
        if (model[d][i].kind == VIRQ && model[d][i].virq == virq && model[d][i].vcpu == vcpu)
            model[d][i].pending = true;
}

/* The guest takes an event, or changes masks, at any time. */
static void guest(unsigned d)
{
    unsigned port = take8() % PORTS;
    if (take8() & 1) {
        domain[d]->shared->evtchn_pending[0] &= ~(1UL << port);
        model[d][port].pending = false;
    } else {
        domain[d]->shared->evtchn_mask[0] ^= 1UL << port;
        domain[d]->vcpu[0]->info->evtchn_upcall_pending = 0;
    }
}

static void others(unsigned d)
{
    struct evtchn_bind_vcpu v = {take8() % PORTS, take8() % (VCPUS + 1)};
    struct evtchn_unmask u = {take8() % PORTS};
    enum kind kind = model[d][v.port].kind;
    long rc = op(d, EVTCHNOP_bind_vcpu, &v);
    if (v.vcpu >= VCPUS || kind == FREE || kind == IPI)
        CHECK(rc);
    op(d, EVTCHNOP_unmask, &u);
}

static void status(unsigned d)
{
    unsigned target = take8() % DOMAINS, port = take8() % PORTS;
    struct evtchn_status s = {.dom = domain[target]->id, .port = port};
    static const unsigned wanted[] = {EVTCHNSTAT_closed, EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain,
                                      EVTCHNSTAT_virq, EVTCHNSTAT_ipi};
    long rc = op(d, EVTCHNOP_status, &s);
    if (target != d && !privileged(d))
        CHECK(rc);
    if (rc)
        return;
    CHECK(s.status == wanted[model[target][port].kind]);
    if (s.status == EVTCHNSTAT_interdomain)
        CHECK(s.u.interdomain.port == model[target][port].remote_port);
}

static void reset(unsigned d)
{
    struct evtchn_reset r = {.dom = DOMID_SELF};
    CHECK(op(d, EVTCHNOP_reset, &r) == 0);
    for (unsigned port = 0; port < PORTS; port++)
        if (model[d][port].kind != FREE)
            forget(d, port);
}

static void check(void)
{
    for (unsigned d = 0; d < DOMAINS; d++)
        for (unsigned port = 1; port < PORTS; port++)
            CHECK((domain[d]->shared->evtchn_pending[0] >> port & 1) == model[d][port].pending);
}

static void (*const actions[])(unsigned) = {
    alloc, bind, bind_ipi, bind_virq, close_port, send, raise_virq, guest, others, status, send};

static void fifo(unsigned d)
{
    struct page *control = fake_domain_page(domain[d]), *array = fake_domain_page(domain[d]);
    struct evtchn_init_control i = {.control_gfn = page_to_mfn(control).n};
    struct evtchn_expand_array x = {.array_gfn = page_to_mfn(array).n};
    CHECK(op(d, EVTCHNOP_init_control, &i) == 0);
    CHECK(op(d, EVTCHNOP_expand_array, &x) == 0);
    uint32_t *words = page_to_virt(array);
    while (input_left) {
        unsigned what = take8();
        struct evtchn_send s = {what % PORTS};
        if (what < 128)
            op(take8() % DOMAINS, EVTCHNOP_send, &s);
        else if (what < 192)
            close_port(d);
        else
            words[what % PORTS] = take32(); /* a guest that writes what it likes */
    }
    reset(d);
    fake_domain_page_drop(control);
    fake_domain_page_drop(array);
}

static void domain_down(struct domain *d)
{
    event_domain_relinquish(d);
    pirq_domain_relinquish(d);
    for (unsigned i = 0; i < d->max_vcpus; i++)
        event_vcpu_fini(d->vcpu[i]);
    event_domain_fini(d);
    pirq_domain_fini(d);
    fake_domain_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    fake_ram_reset();
    fake_irq_reset();
    fake_alloc_live = fake_alloc_fail_in = 0;
    memset(model, 0, sizeof(model));
    for (unsigned d = 0; d < DOMAINS; d++) {
        domain[d] = fake_domain_new(d, VCPUS, privileged(d));
        CHECK(!event_domain_init(domain[d], 1023) && !pirq_domain_init(domain[d]));
        for (unsigned i = 0; i < VCPUS; i++)
            CHECK(!event_vcpu_init(domain[d]->vcpu[i]));
    }
    unsigned steps = take8();
    while (input_left && steps--) {
        unsigned choice = take8();
        if (choice >= 250)
            reset(choice % DOMAINS);
        else
            actions[choice / DOMAINS % ARRAY_SIZE(actions)](choice % DOMAINS);
        check();
    }
    if (input_left)
        fifo(1 + take8() % 2);
    for (unsigned d = DOMAINS; d-- > 0;)
        domain_down(domain[d]);
    CHECK(fake_alloc_live == 0);
    return 0;
}
