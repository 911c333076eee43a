/* SOURCES: hvm/ioreq.c lib/range.c mm/page.c mm/page_type.c lib/bitmap.c lib/spinlock.c */
/* SOURCES: fake/cpu.c fake/alloc.c fake/domain.c */
/*
 * I/O request servers of one domain against a plain model: who has which addresses, whom a request
 * goes to, what a device model that answers, lies, holds on to its pages or goes away in the middle
 * brings about; with allocations that fail. At the end no port, page or byte is left.
 */
#include "fuzz.h"

#include "event/event.h"
#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "hvm/hvm.h"
#include "hvm/ioreq.h"

#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>

enum { SERVERS = 8, KINDS = 3, ADDRESSES = 64, VCPUS = 2, PORTS = 256 };

static struct domain *d;
static bool port_used[PORTS];
static struct {
    bool used, enabled, buffered;
    uint64_t has[KINDS]; /* a bit per address */
    mfn_t held;          /* its page of slots as the device model maps it */
    bool holds;
} model[SERVERS];
static struct {
    unsigned server, schedules;
    bool answered, gone;
    uint64_t data;
} request; /* the one in flight */

struct cpu *this_cpu(void)
{
    return &fake_cpu[0];
}

/* --- event/ and sched/ --- */

int event_alloc_ours(struct domain *dom, unsigned vcpu, domid_t remote, evtchn_port_t *port)
{
    CHECK(vcpu < VCPUS && remote == 1);
    if (fake_alloc_fail_in && --fake_alloc_fail_in == 0)
        return -XEN_ENOSPC;
    for (unsigned i = 1; i < PORTS; i++)
        if (!port_used[i]) {
            port_used[i] = true;
            *port = i;
            return 0;
        }
    CHECK(!"more ports than servers can have");
    return -XEN_ENOSPC;
}

void event_free_ours(struct domain *dom, evtchn_port_t port)
{
    CHECK(port < PORTS && port_used[port]);
    port_used[port] = false;
}

void event_send_ours(struct domain *dom, evtchn_port_t port)
{
    CHECK(port < PORTS && port_used[port]);
}

void sched_block(struct sched_entity *e, uint32_t bit)
{
    e->blockers |= bit;
}

static struct ioreq *slots(unsigned server)
{
    mfn_t frame;
    CHECK(!ioreq_frame(d, server, 1, &frame));
    return page_to_virt(mfn_to_page(frame));
}

static void destroy(unsigned i)
{
    CHECK(ioreq_destroy(d, i) == (model[i].used ? 0 : -XEN_ENOENT));
    model[i].used = model[i].enabled = false;
    memset(model[i].has, 0, sizeof(model[i].has));
    if (request.server == i)
        request.gone = true;
}

/* The vCPU sleeps: the device model does something, in the end an answer. */
void schedule(void)
{
    struct vcpu *v = current_vcpu();
    struct ioreq *slot = slots(request.server) + v->id;
    CHECK(cpus[0]->locks_held == 0);
    CHECK((v->sched.blockers & SCHED_IOREQ) && !request.gone);
    uint8_t what = request.schedules++ < 8 ? take8() % 8 : 0;
    switch (what) {
    case 1: /* a state that is none, or not yet */
        slot->state = take8() & 15;
        if (slot->state == STATE_IORESP_READY)
            slot->state = STATE_IOREQ_NONE;
        break;
    case 2: /* rubbish in the rest of the page */
        slot->vp_eport = take32();
        slot->size = take32();
        slot->addr = take64();
        slots(request.server)[1 - v->id].state = STATE_IORESP_READY;
        break;
    case 3:
        destroy(request.server);
        return;
    case 4: /* another one goes: it is nothing to this vCPU */
        if (request.server != 7)
            destroy(7);
        break;
    case 5: /* woken for nothing */
        break;
    default:
        slot->data = request.data = take64();
        slot->state = STATE_IORESP_READY;
        request.answered = true;
        break;
    }
    ioreq_answered(v);
    CHECK(!(v->sched.blockers & SCHED_IOREQ));
}

/* --- operations --- */

static bool all_in_use(void)
{
    for (unsigned i = 0; i < SERVERS; i++)
        if (!model[i].used && !model[i].holds)
            return false;
    return true;
}

static void create(void)
{
    uint8_t how = take8() & 3;
    ioservid_t id = 99;
    bool fails = !(take8() & 7), full = all_in_use();
    fake_alloc_fail_in = fails ? 1 + (take8() & 7) : 0;
    int rc = ioreq_create(d, 1, how, &id);
    fails = fails && !fake_alloc_fail_in; /* did it come to that? */
    fake_alloc_fail_in = 0;
    if (how == 3) {
        CHECK(rc == -XEN_EINVAL);
        return;
    }
    CHECK(rc == 0 || fails || (full && rc == -XEN_ENOSPC));
    if (rc)
        return;
    CHECK(!full && id < SERVERS && !model[id].used && !model[id].holds);
    model[id].used = true;
    model[id].enabled = false;
    model[id].buffered = how != HVM_IOREQSRV_BUFIOREQ_OFF;
    for (unsigned i = 0; i < VCPUS; i++) { /* as new: nothing of a former one is seen */
        CHECK(slots(id)[i].state == STATE_IOREQ_NONE && !slots(id)[i].data);
        CHECK(port_used[slots(id)[i].vp_eport]);
    }
}

static void range(void)
{
    uint8_t where = take8();
    struct xen_dm_op_ioreq_server_range r = {
        .id = take8() % (SERVERS + 1),
        .pad = where == 255,
        .type = where & 3,
        .start = take8() % ADDRESSES,
    };
    bool add = where & 4, fails = (where & 0x38) == 0x38;
    unsigned n = take8() % 16;
    r.end = where & 0x40 && r.start ? r.start - 1 : r.start + n;
    fake_alloc_fail_in = fails;
    int rc = ioreq_range(d, &r, add);
    fails = fails && !fake_alloc_fail_in;
    fake_alloc_fail_in = 0;
    if (r.pad || r.type >= KINDS || r.end < r.start) {
        CHECK(rc == -XEN_EINVAL);
        return;
    }
    if (r.end >= ADDRESSES) {
        if (!rc && add) /* beyond what the model follows: away again */
            CHECK(!ioreq_range(d, &r, false));
        else
            CHECK(rc);
        return;
    }
    uint64_t bits = (r.end == 63 ? ~0UL : (1UL << (r.end + 1)) - 1) & ~((1UL << r.start) - 1);
    uint64_t *has = r.id < SERVERS ? &model[r.id].has[r.type] : NULL;
    int want = !has || !model[r.id].used ? -XEN_ENOENT
               : add && (*has & bits)    ? -XEN_EEXIST
               : !add && (bits & ~*has)  ? -XEN_ENOENT
                                         : 0;
    CHECK(rc == want || (fails && rc == -XEN_ENOMEM));
    if (!rc)
        *has = add ? *has | bits : *has & ~bits;
}

static void ask(struct vcpu *v)
{
    static const uint8_t sizes[] = {1, 2, 4, 8},
                         types[] = {IOREQ_TYPE_PIO, IOREQ_TYPE_COPY, IOREQ_TYPE_PCI_CONFIG};
    uint8_t how = take8();
    unsigned kind = how % 3, at = take8() % (ADDRESSES - 8), size = sizes[how >> 4 & 3];
    struct ioreq_access a = {.type = types[kind],
                             .write = how & 0x80,
                             .size = size,
                             .addr = kind == 2 ? (uint64_t)at << 32 | take8() : at,
                             .data = how & 0x80 ? take64() : 0x5555};
    uint64_t bits = kind == 2 ? 1UL << at : ((size == 8 ? 256UL : 1UL << size) - 1) << at;
    unsigned to = 0;
    while (to < SERVERS && !(model[to].used && model[to].enabled && !(bits & ~model[to].has[kind])))
        to++;
    memset(&request, 0, sizeof(request));
    request.server = to;
    uint64_t wrote = a.data;
    fake_current(v);
    bool done = ioreq_send(v, &a);
    CHECK(!v->hvm->ioreq && !(v->sched.blockers & SCHED_IOREQ));
    CHECK(done == (to < SERVERS && request.answered && !request.gone));
    CHECK(a.data == (!done || a.write ? wrote
                     : size < 8       ? request.data & ((1UL << 8 * size) - 1)
                                      : request.data));
    if (done)
        CHECK(slots(to)[v->id].state == STATE_IOREQ_NONE);
    request.server = SERVERS;
}

/* The device model maps a server's page, or lets go. */
static void hold(unsigned i)
{
    if (model[i].holds)
        page_put(mfn_to_page(model[i].held));
    else if (ioreq_frame(d, i, 1, &model[i].held))
        return;
    else
        CHECK(page_get(mfn_to_page(model[i].held), d));
    model[i].holds = !model[i].holds;
}

static void look(unsigned i)
{
    evtchn_port_t port;
    mfn_t frame;
    CHECK(ioreq_info(d, i, &port) == (model[i].used ? 0 : -XEN_ENOENT));
    CHECK((port != 0) == (model[i].used && model[i].buffered));
    CHECK(!ioreq_frame(d, i, 0, &frame) == (model[i].used && model[i].buffered));
    CHECK(!ioreq_frame(d, i, 1, &frame) == model[i].used);
    CHECK(ioreq_frame(d, i, 2, &frame) == (model[i].used ? -XEN_EINVAL : -XEN_ENOENT));
    CHECK(ioreq_enable(d, SERVERS + take8(), true) == -XEN_ENOENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool holds = false;
    input = data;
    input_left = size;
    fake_ram_reset();
    memset(model, 0, sizeof(model));
    memset(port_used, 0, sizeof(port_used));
    request.server = SERVERS;
    unsigned live = fake_alloc_live;
    d = fake_domain_new(2, VCPUS, false);
    d->hvm = calloc(1, sizeof(*d->hvm));
    for (unsigned i = 0; i < VCPUS; i++)
        d->vcpu[i]->hvm = calloc(1, sizeof(*d->vcpu[i]->hvm));
    CHECK(!ioreq_init(d));
    for (unsigned i = 0; input_left && i < 300; i++) {
        uint8_t what = take8(), id = what >> 5;
        switch (what & 7) {
        case 0:
            create();
            break;
        case 1:
            destroy(id);
            break;
        case 2:
        case 3:
            range();
            break;
        case 4: {
            bool on = take8() & 1;
            CHECK(ioreq_enable(d, id, on) == (model[id].used ? 0 : -XEN_ENOENT));
            model[id].enabled = model[id].used && on;
            break;
        }
        case 5:
            ask(d->vcpu[id & 1]);
            break;
        case 6:
            hold(id);
            break;
        case 7:
            look(id);
            break;
        }
        CHECK(fake_cpu[0].locks_held == 0);
    }
    ioreq_relinquish(d);
    for (unsigned i = 0; i < PORTS; i++)
        CHECK(!port_used[i]);
    for (unsigned i = 0; i < SERVERS; i++)
        holds |= model[i].holds;
    CHECK(ioreq_shown(d) == holds);
    for (unsigned i = 0; i < SERVERS; i++)
        if (model[i].holds)
            hold(i);
    CHECK(!ioreq_shown(d));
    ioreq_fini(d);
    CHECK(fake_alloc_live == live);
    for (unsigned i = 0; i < VCPUS; i++)
        free(d->vcpu[i]->hvm);
    free(d->hvm);
    fake_domain_free(d);
    return 0;
}
