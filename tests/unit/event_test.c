/* SOURCES: event/event.c event/two_level.c event/fifo.c event/virq.c event/op.c event/pirq.c */
/* SOURCES: hypercall/permission.c mm/page.c mm/page_type.c lib/bitmap.c lib/spinlock.c */
/* SOURCES: fake/cpu.c fake/alloc.c fake/domain.c fake/guest.c fake/irq.c */
/*
 * Event channels through the hypercall: what each state of a port allows and refuses, 2-level
 * delivery, virtual and physical interrupts, polling, failing allocations, closing while sending.
 */
#include <threads.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "console/console.h"
#include "event/internal.h"
#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "fake/irq.h"
#include "hypercall/table.h"

#include <xen/physdev.h>

extern unsigned fake_guest_fault_in;

static struct domain *zero, *one, *two;

/* Each thread is a CPU of its own. */
static __thread struct cpu *thread_cpu;
struct cpu *this_cpu(void)
{
    return thread_cpu ? thread_cpu : &fake_cpu[0];
}

static struct domain *domain_up(domid_t id, unsigned vcpus, bool privileged, unsigned max_port)
{
    struct domain *d = fake_domain_new(id, vcpus, privileged);
    assert_int_equal(event_domain_init(d, max_port), 0);
    assert_int_equal(pirq_domain_init(d), 0);
    for (unsigned i = 0; i < vcpus; i++)
        assert_int_equal(event_vcpu_init(d->vcpu[i]), 0);
    return d;
}

static void domain_down(struct domain *d)
{
    for (unsigned i = 0; i < 2; i++) { /* idempotent */
        event_domain_relinquish(d);
        pirq_domain_relinquish(d);
    }
    for (unsigned i = 0; i < d->max_vcpus; i++)
        event_vcpu_fini(d->vcpu[i]);
    event_domain_fini(d);
    pirq_domain_fini(d);
    fake_domain_free(d);
}

static int setup(void **state)
{
    fake_ram_reset();
    fake_irq_reset();
    fake_alloc_live = fake_alloc_fail_in = 0;
    fake_guest_fault_in = 0;
    zero = domain_up(0, 4, true, ~0u);
    one = domain_up(1, 2, false, 1023);
    two = domain_up(2, 2, false, 1023);
    fake_current(one->vcpu[0]);
    return 0;
}

static int teardown(void **state)
{
    domain_down(one);
    domain_down(two);
    domain_down(zero);
    assert_int_equal(fake_alloc_live, 0);
    return 0;
}

static long op(unsigned cmd, void *arg)
{
    return hc_event_channel_op(cmd, (uint64_t)arg);
}

static long op_as(struct domain *d, unsigned cmd, void *arg)
{
    struct vcpu *before = this_cpu()->current;
    fake_current(d->vcpu[0]);
    long rc = op(cmd, arg);
    fake_current(before);
    return rc;
}

static evtchn_port_t unbound(struct domain *d, domid_t remote)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = remote};
    assert_int_equal(op_as(d, EVTCHNOP_alloc_unbound, &a), 0);
    return a.port;
}

/* A bound pair; returns @local's port, *other is @remote's. */
static evtchn_port_t bound(struct domain *local, struct domain *remote, evtchn_port_t *other)
{
    *other = unbound(remote, local->id);
    struct evtchn_bind_interdomain b = {.remote_dom = remote->id, .remote_port = *other};
    assert_int_equal(op_as(local, EVTCHNOP_bind_interdomain, &b), 0);
    return b.local_port;
}

static long close_as(struct domain *d, evtchn_port_t port)
{
    struct evtchn_close c = {port};
    return op_as(d, EVTCHNOP_close, &c);
}

static long send_as(struct domain *d, evtchn_port_t port)
{
    struct evtchn_send s = {port};
    return op_as(d, EVTCHNOP_send, &s);
}

static long vcpu_as(struct domain *d, evtchn_port_t port, unsigned vcpu)
{
    struct evtchn_bind_vcpu b = {port, vcpu};
    return op_as(d, EVTCHNOP_bind_vcpu, &b);
}

static struct evtchn_status status(struct domain *d, evtchn_port_t port)
{
    struct evtchn_status s = {.dom = DOMID_SELF, .port = port};
    assert_int_equal(op_as(d, EVTCHNOP_status, &s), 0);
    return s;
}

/* What the guest finds and clears. */
static bool take(struct domain *d, unsigned vcpu, evtchn_port_t port)
{
    struct vcpu_info *info = &d->shared->vcpu_info[vcpu];
    bool told = info->evtchn_upcall_pending && (info->evtchn_pending_sel >> (port / 64) & 1);
    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;
    return atomic_bit_clear((uint64_t *)d->shared->evtchn_pending, port) && told;
}

static void mask(struct domain *d, evtchn_port_t port)
{
    atomic_bit_set((uint64_t *)d->shared->evtchn_mask, port);
}

/* --- binding --- */

static void test_alloc_unbound(void **state)
{
    evtchn_port_t port = unbound(one, 2);
    assert_int_equal(port, 1); /* 0 is no port */
    assert_int_equal(unbound(one, DOMID_SELF), 2);
    struct evtchn_status s = status(one, port);
    assert_int_equal(s.status, EVTCHNSTAT_unbound);
    assert_int_equal(s.u.unbound.dom, 2);
    assert_int_equal(status(one, 2).u.unbound.dom, 1);

    /* On behalf of others: domain 0 only. */
    struct evtchn_alloc_unbound a = {.dom = 2, .remote_dom = 0};
    assert_int_equal(op_as(one, EVTCHNOP_alloc_unbound, &a), -XEN_EPERM);
    assert_int_equal(op_as(zero, EVTCHNOP_alloc_unbound, &a), 0);
    assert_int_equal(status(two, a.port).u.unbound.dom, 0);
    a.dom = 7;
    assert_int_equal(op_as(zero, EVTCHNOP_alloc_unbound, &a), -XEN_ESRCH);
    assert_int_equal(hc_event_channel_op(EVTCHNOP_alloc_unbound, 8), -XEN_EFAULT);
}

static void test_bind_interdomain(void **state)
{
    evtchn_port_t far = unbound(one, 2), near;
    struct evtchn_bind_interdomain b = {.remote_dom = 1, .remote_port = far};
    assert_int_equal(op_as(zero, EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL); /* not for it */
    assert_int_equal(op_as(two, EVTCHNOP_bind_interdomain, &b), 0);
    near = b.local_port;
    assert_int_equal(op_as(two, EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL); /* taken */
    assert_true(take(two, 0, near)); /* the header: set pending at once */
    assert_false(event_port_pending(one, far));

    struct evtchn_status s = status(two, near);
    assert_int_equal(s.status, EVTCHNSTAT_interdomain);
    assert_int_equal(s.u.interdomain.dom, 1);
    assert_int_equal(s.u.interdomain.port, far);
    assert_int_equal(status(one, far).u.interdomain.port, near);

    b.remote_port = 0;
    assert_int_equal(op_as(two, EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
    b.remote_port = 1u << 31;
    assert_int_equal(op_as(two, EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
    b.remote_dom = 6;
    assert_int_equal(op_as(two, EVTCHNOP_bind_interdomain, &b), -XEN_ESRCH);
}

static void test_loopback(void **state)
{
    evtchn_port_t a, b = bound(one, one, &a);
    assert_int_not_equal(a, b);
    take(one, 0, b);
    assert_int_equal(send_as(one, b), 0);
    assert_true(take(one, 0, a));
    assert_int_equal(send_as(one, a), 0);
    assert_true(take(one, 0, b));
    assert_int_equal(close_as(one, a), 0);
    assert_int_equal(status(one, b).status, EVTCHNSTAT_unbound);
}

static void test_send(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    unsigned kicks = fake_kicks[2][0];
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(fake_kicks[2][0], kicks + 1);
    assert_int_equal(send_as(one, near), 0); /* pending already: nothing new */
    assert_int_equal(fake_kicks[2][0], kicks + 1);
    assert_true(take(two, 0, far));

    assert_int_equal(send_as(one, 0), -XEN_EINVAL);
    assert_int_equal(send_as(one, near + 1), -XEN_EINVAL);
    assert_int_equal(send_as(one, ~0u), -XEN_EINVAL);
    assert_int_equal(send_as(two, unbound(two, 1)), 0); /* unbound: discarded */
    assert_int_equal(hc_event_channel_op(EVTCHNOP_send, 0), -XEN_EFAULT);
    assert_int_equal(hc_event_channel_op(99, 0), -XEN_ENOSYS);
}

static void test_mask_and_unmask(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    unsigned kicks = fake_kicks[2][0];
    mask(two, far);
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(fake_kicks[2][0], kicks);
    assert_true(event_port_pending(two, far));
    assert_int_equal(two->shared->vcpu_info[0].evtchn_upcall_pending, 0);

    struct evtchn_unmask u = {far};
    assert_int_equal(op_as(two, EVTCHNOP_unmask, &u), 0);
    assert_int_equal(fake_kicks[2][0], kicks + 1);
    assert_true(take(two, 0, far));
    assert_int_equal(op_as(two, EVTCHNOP_unmask, &u), 0); /* not masked, not pending */
    assert_int_equal(fake_kicks[2][0], kicks + 1);
    u.port = 500;
    assert_int_equal(op_as(two, EVTCHNOP_unmask, &u), -XEN_EINVAL);
}

/* The words of 32-bit code: the mask right behind 1024 pending bits, its selector at byte 4. */
static void test_narrow_layout(void **state)
{
    uint32_t *pending = (uint32_t *)((uint8_t *)two->shared + 2048);
    uint32_t *masked = (uint32_t *)((uint8_t *)two->shared + 2176);
    uint32_t *info = (uint32_t *)two->vcpu[0]->info;
    evtchn_port_t near, far;
    for (unsigned i = 1; i < 100; i++)
        assert_int_equal(event_alloc_unbound(two, 1, &far), 0);
    near = bound(one, two, &far);
    assert_int_equal(far, 100);
    two->ports_2l = 1024;
    masked[3] = 1u << 4;
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(pending[3], 1u << 4);
    assert_int_equal(info[0] | info[1], 0);
    struct evtchn_unmask u = {far};
    assert_int_equal(op_as(two, EVTCHNOP_unmask, &u), 0);
    assert_int_equal(masked[3], 0);
    assert_int_equal(info[0], 1);
    assert_int_equal(info[1], 1u << 3);
    assert_int_equal(info[2] | info[3], 0);
    info[0] = info[1] = pending[3] = 0;
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(info[0], 1);
    assert_int_equal(info[1], 1u << 3);
    assert_true(event_port_pending(two, far));
    assert_int_equal(close_as(two, far), 0);
    assert_int_equal(pending[3], 0);

    /* No more ports; of what there were before, nothing is told. */
    for (unsigned i = 1; i < 1030; i++)
        assert_int_equal(event_alloc_unbound(zero, 1, &far), 0);
    zero->ports_2l = 1024;
    assert_int_equal(event_alloc_unbound(zero, 1, &near), -XEN_ENOSPC);
    channel_raise(channel_at(zero->event, far));
    assert_false(event_port_pending(zero, far));
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(((uint8_t *)zero->shared)[i], 0);
}

static void test_close(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    assert_int_equal(send_as(two, far), 0);
    assert_int_equal(close_as(one, near), 0);
    assert_false(event_port_pending(one, near)); /* the next owner starts clean */
    assert_int_equal(close_as(one, near), -XEN_EINVAL);
    assert_int_equal(status(one, near).status, EVTCHNSTAT_closed);
    struct evtchn_status s = status(two, far);
    assert_int_equal(s.status, EVTCHNSTAT_unbound);
    assert_int_equal(s.u.unbound.dom, 1);
    assert_int_equal(send_as(two, far), 0); /* into the void */

    struct evtchn_bind_interdomain b = {.remote_dom = 2, .remote_port = far};
    assert_int_equal(op_as(one, EVTCHNOP_bind_interdomain, &b), 0);
    assert_int_equal(b.local_port, near); /* the lowest free one */
    assert_int_equal(close_as(one, 0), -XEN_EINVAL);
    assert_int_equal(close_as(one, 4096), -XEN_EINVAL);
}

static void test_bind_vcpu(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    assert_int_equal(vcpu_as(two, far, 2), -XEN_ENOENT);
    assert_int_equal(vcpu_as(two, far, ~0u), -XEN_ENOENT);
    assert_int_equal(vcpu_as(two, 77, 1), -XEN_EINVAL);
    assert_int_equal(vcpu_as(two, far, 1), 0);
    assert_int_equal(status(two, far).vcpu, 1);
    take(two, 0, far);
    assert_int_equal(send_as(one, near), 0);
    assert_true(take(two, 1, far));

    assert_int_equal(close_as(two, far), 0);
    assert_int_equal(unbound(two, 1), far);
    assert_int_equal(status(two, far).vcpu, 0); /* back to the default */
}

static void test_ipi(void **state)
{
    struct evtchn_bind_ipi i = {.vcpu = 1};
    assert_int_equal(op(EVTCHNOP_bind_ipi, &i), 0);
    assert_int_equal(status(one, i.port).status, EVTCHNSTAT_ipi);
    assert_int_equal(send_as(one, i.port), 0);
    assert_true(take(one, 1, i.port));
    assert_int_equal(vcpu_as(one, i.port, 0), -XEN_EINVAL); /* bound for good */
    assert_int_equal(close_as(one, i.port), 0);
    i.vcpu = 2;
    assert_int_equal(op(EVTCHNOP_bind_ipi, &i), -XEN_ENOENT);
}

static void test_status_of_others(void **state)
{
    struct evtchn_status s = {.dom = 2, .port = unbound(two, 1)};
    assert_int_equal(op_as(one, EVTCHNOP_status, &s), -XEN_EPERM);
    assert_int_equal(op_as(zero, EVTCHNOP_status, &s), 0);
    assert_int_equal(s.status, EVTCHNSTAT_unbound);
    s.port = 100000;
    assert_int_equal(op_as(zero, EVTCHNOP_status, &s), -XEN_EINVAL);
}

/* --- limits --- */

static void test_port_limit(void **state)
{
    evtchn_port_t port;
    for (unsigned i = 1; i < 1024; i++)
        assert_int_equal(event_alloc_unbound(one, 2, &port), 0);
    assert_int_equal(port, 1023);
    assert_int_equal(event_alloc_unbound(one, 2, &port), -XEN_ENOSPC);
    assert_int_equal(event_close(one, 500), 0);
    assert_int_equal(event_alloc_unbound(one, 2, &port), 0);
    assert_int_equal(port, 500);

    /* No creation limit: what 2-level can address. */
    for (unsigned i = 1; i < 4096; i++)
        assert_int_equal(event_alloc_unbound(zero, 2, &port), 0);
    assert_int_equal(event_alloc_unbound(zero, 2, &port), -XEN_ENOSPC);
}

static void test_small_limits(void **state)
{
    evtchn_port_t port;
    struct domain *d = domain_up(3, 1, false, 0);
    assert_int_equal(event_alloc_unbound(d, 0, &port), -XEN_ENOSPC);
    domain_down(d);
    d = domain_up(3, 1, false, 130); /* not a whole bucket */
    for (unsigned i = 1; i <= 130; i++)
        assert_int_equal(event_alloc_unbound(d, 0, &port), 0);
    assert_int_equal(event_alloc_unbound(d, 0, &port), -XEN_ENOSPC);
    domain_down(d);
}

static void test_no_memory(void **state)
{
    struct domain *d = fake_domain_new(3, 1, false);
    for (unsigned n = 1; n <= 4; n++) {
        fake_alloc_fail_in = n;
        assert_int_equal(event_domain_init(d, 1023), -XEN_ENOMEM);
        assert_null(d->event);
    }
    fake_alloc_fail_in = 1;
    assert_int_equal(pirq_domain_init(d), -XEN_ENOMEM);
    fake_alloc_fail_in = 1;
    assert_int_equal(event_vcpu_init(d->vcpu[0]), -XEN_ENOMEM);
    fake_domain_free(d);

    evtchn_port_t port;
    for (unsigned i = 1; i < 128; i++)
        assert_int_equal(event_alloc_unbound(one, 2, &port), 0);
    fake_alloc_fail_in = 1;
    assert_int_equal(event_alloc_unbound(one, 2, &port), -XEN_ENOMEM);
    struct evtchn_bind_interdomain b = {.remote_dom = 2, .remote_port = unbound(two, 1)};
    fake_alloc_fail_in = 1;
    assert_int_equal(op(EVTCHNOP_bind_interdomain, &b), -XEN_ENOMEM);
    assert_int_equal(status(two, b.remote_port).status, EVTCHNSTAT_unbound);
    assert_int_equal(event_alloc_unbound(one, 2, &port), 0);
    assert_int_equal(port, 128);
}

/* A port whose number cannot be told is not left behind. */
static void test_result_faults(void **state)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = 2};
    fake_guest_fault_in = 2;
    assert_int_equal(op(EVTCHNOP_alloc_unbound, &a), -XEN_EFAULT);
    assert_int_equal(status(one, 1).status, EVTCHNSTAT_closed);

    evtchn_port_t far = unbound(two, 1);
    struct evtchn_bind_interdomain b = {.remote_dom = 2, .remote_port = far};
    fake_guest_fault_in = 2;
    assert_int_equal(op(EVTCHNOP_bind_interdomain, &b), -XEN_EFAULT);
    assert_int_equal(status(two, far).status, EVTCHNSTAT_unbound);
    struct evtchn_bind_virq v = {.virq = VIRQ_TIMER};
    fake_guest_fault_in = 2;
    assert_int_equal(op(EVTCHNOP_bind_virq, &v), -XEN_EFAULT);
    assert_int_equal(op(EVTCHNOP_bind_virq, &v), 0);
}

/* --- virqs --- */

static void test_vcpu_virq(void **state)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER, .vcpu = 1};
    assert_int_equal(op(EVTCHNOP_bind_virq, &b), 0);
    assert_int_equal(op(EVTCHNOP_bind_virq, &b), -XEN_EEXIST);
    assert_int_equal(status(one, b.port).u.virq, VIRQ_TIMER);
    event_send_virq(one->vcpu[0], VIRQ_TIMER); /* not its */
    assert_false(event_port_pending(one, b.port));
    event_send_virq(one->vcpu[1], VIRQ_TIMER);
    assert_true(take(one, 1, b.port));
    assert_int_equal(vcpu_as(one, b.port, 0), -XEN_EINVAL);
    assert_int_equal(send_as(one, b.port), -XEN_EINVAL);
    assert_int_equal(close_as(one, b.port), 0);
    event_send_virq(one->vcpu[1], VIRQ_TIMER);
    assert_false(event_port_pending(one, b.port));
    assert_int_equal(op(EVTCHNOP_bind_virq, &b), 0);

    b.virq = NR_VIRQS;
    assert_int_equal(op(EVTCHNOP_bind_virq, &b), -XEN_EINVAL);
    b.virq = VIRQ_DEBUG, b.vcpu = 9;
    assert_int_equal(op(EVTCHNOP_bind_virq, &b), -XEN_ENOENT);
    event_send_virq(one->vcpu[0], 4000);
}

static void test_global_virq(void **state)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_DOM_EXC, .vcpu = 1};
    assert_int_equal(op_as(zero, EVTCHNOP_bind_virq, &b), -XEN_EINVAL); /* vCPU 0 first */
    b.vcpu = 0;
    assert_int_equal(op_as(zero, EVTCHNOP_bind_virq, &b), 0);
    event_send_global_virq(VIRQ_DOM_EXC);
    assert_true(take(zero, 0, b.port));
    assert_int_equal(vcpu_as(zero, b.port, 3), 0); /* may move */
    event_send_global_virq(VIRQ_DOM_EXC);
    assert_true(take(zero, 3, b.port));

    struct evtchn_bind_virq c = {.virq = VIRQ_DOM_EXC};
    assert_int_equal(op_as(one, EVTCHNOP_bind_virq, &c), 0);
    assert_int_equal(event_set_global_virq_handler(one, VIRQ_TIMER), -XEN_EINVAL);
    assert_int_equal(event_set_global_virq_handler(one, 99), -XEN_EINVAL);
    assert_int_equal(event_set_global_virq_handler(one, VIRQ_DOM_EXC), 0);
    event_send_global_virq(VIRQ_DOM_EXC);
    assert_true(take(one, 0, c.port));
    assert_false(event_port_pending(zero, b.port));

    event_domain_relinquish(one); /* domain 0 again */
    event_send_global_virq(VIRQ_DOM_EXC);
    assert_true(take(zero, 3, b.port));
    assert_int_equal(event_set_global_virq_handler(one, VIRQ_DOM_EXC), -XEN_EINVAL);
    assert_int_equal(close_as(zero, b.port), 0); /* though it is not on vCPU 0 */
    b.vcpu = 0;
    assert_int_equal(op_as(zero, EVTCHNOP_bind_virq, &b), 0);
}

static void test_console_input(void **state)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_CONSOLE};
    assert_int_equal(op_as(zero, EVTCHNOP_bind_virq, &b), 0);
    console_input_hook();
    assert_true(take(zero, 0, b.port));
}

/* --- polling --- */

static void test_poll(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    struct vcpu *v = two->vcpu[0];
    take(two, 0, far);
    mask(two, far); /* polls look at masked ports too */
    fake_current(v);
    assert_int_equal(event_any_pending(two, &far, 1), 0);
    v->sched.blockers = SCHED_BLOCKED | SCHED_POLLING;
    v->poll_port = far + 1;
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(v->sched.blockers, SCHED_BLOCKED | SCHED_POLLING); /* waits for another */
    assert_int_equal(event_any_pending(two, &far, 1), 1);
    take(two, 0, far);
    v->poll_port = far;
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(v->sched.blockers, SCHED_BLOCKED);
    assert_true(v->poll_event);

    take(two, 0, far);
    v->sched.blockers = SCHED_POLLING;
    v->poll_port = 0; /* several */
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(v->sched.blockers, 0);
    evtchn_port_t bad = 5000;
    assert_int_equal(event_any_pending(two, &bad, 1), -XEN_EINVAL);
}

/* A vCPU polls on a port that notifies another one. */
static void test_poll_others_port(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    struct vcpu *v = two->vcpu[1];
    take(two, 0, far);
    fake_current(v);
    v->sched.blockers = SCHED_POLLING;
    v->poll_port = far;
    assert_int_equal(event_any_pending(two, &far, 1), 0);
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(v->sched.blockers, 0);

    /* And the port moves away from under the poller. */
    take(two, 0, far);
    two->vcpu[0]->sched.blockers = SCHED_POLLING;
    two->vcpu[0]->poll_port = far;
    assert_int_equal(vcpu_as(two, far, 1), 0);
    assert_int_equal(two->vcpu[0]->sched.blockers, 0);
}

/* --- reset and death --- */

static void test_reset(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    struct evtchn_reset r = {.dom = 2};
    assert_int_equal(op_as(one, EVTCHNOP_reset, &r), -XEN_EPERM);
    assert_int_equal(op_as(zero, EVTCHNOP_reset, &r), -XEN_EINVAL); /* it runs */
    two->controller_pauses = 1;
    assert_int_equal(op_as(zero, EVTCHNOP_reset, &r), 0);
    assert_int_equal(status(two, far).status, EVTCHNSTAT_closed);
    assert_int_equal(status(one, near).status, EVTCHNSTAT_unbound);
    r.dom = DOMID_SELF;
    for (unsigned i = 0; i < 300; i++)
        unbound(one, 2);
    unsigned before = fake_preempts;
    assert_int_equal(op_as(one, EVTCHNOP_reset, &r), 0);
    assert_true(fake_preempts > before);
    assert_int_equal(status(one, near).status, EVTCHNSTAT_closed);
    r.dom = 7;
    assert_int_equal(op_as(zero, EVTCHNOP_reset, &r), -XEN_ESRCH);
}

static void test_death(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far), port;
    evtchn_port_t waiting = unbound(two, 1);
    event_domain_relinquish(two);
    assert_int_equal(status(one, near).status, EVTCHNSTAT_unbound);
    assert_int_equal(send_as(one, near), 0);
    assert_int_equal(event_alloc_unbound(two, 0, &port), -XEN_EINVAL);
    struct evtchn_bind_interdomain b = {.remote_dom = 2, .remote_port = waiting};
    assert_int_equal(op_as(one, EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
    b.remote_dom = 1, b.remote_port = near; /* it cannot come back either */
    assert_int_equal(op_as(two, EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
}

/* --- physical interrupts --- */

static evtchn_port_t bind_pirq(unsigned pirq)
{
    struct evtchn_bind_pirq b = {.pirq = pirq, .flags = BIND_PIRQ__WILL_SHARE};
    assert_int_equal(op_as(zero, EVTCHNOP_bind_pirq, &b), 0);
    return b.port;
}

static void test_pirq_map(void **state)
{
    int n = 9, any = -1;
    assert_int_equal(pirq_map(zero, &n, 9, false), 0);
    assert_int_equal(pirq_map(zero, &n, 9, false), 0); /* again is fine */
    assert_int_equal(pirq_map(zero, &any, 9, false), 0);
    assert_int_equal(any, 9);
    n = 10;
    assert_int_equal(pirq_map(zero, &n, 9, false), -XEN_EBUSY);
    n = 9;
    assert_int_equal(pirq_map(zero, &n, 8, false), -XEN_EBUSY);
    n = MAX_IRQS;
    assert_int_equal(pirq_map(zero, &n, 8, false), -XEN_EINVAL);
    n = -1;
    assert_int_equal(pirq_map(zero, &n, irq_gsi_count, false), -XEN_EINVAL);
    assert_int_equal(pirq_map(zero, &n, MAX_IRQS, true), -XEN_EINVAL);
    assert_int_equal(pirq_free_number(zero), irq_gsi_count);
    assert_int_equal(pirq_map(zero, &n, 100, true), 0);
    assert_int_equal(n, irq_gsi_count); /* MSIs stay clear of the GSIs' numbers */
    assert_int_equal(pirq_unmap(zero, n), 0);
    assert_int_equal(fake_msi_freed, 100);
    assert_int_equal(pirq_unmap(zero, n), -XEN_EINVAL);
    assert_int_equal(pirq_unmap(zero, -1), -XEN_EINVAL);
    assert_int_equal(pirq_unmap(one, 5), -XEN_EINVAL); /* has none */
    fake_alloc_fail_in = 1;
    n = 5;
    assert_int_equal(pirq_map(one, &n, 5, false), -XEN_ENOMEM);
}

static void test_pirq_level(void **state)
{
    int n = 16;
    uint32_t flags;
    fake_irq[16].level = true;
    assert_int_equal(pirq_map(zero, &n, 16, false), 0);
    assert_int_equal(pirq_eoi(zero, 16), -XEN_EINVAL); /* not bound */
    evtchn_port_t port = bind_pirq(16);
    assert_int_equal(status(zero, port).u.pirq, 16);
    assert_false(fake_irq[16].masked);
    assert_int_equal(pirq_status(zero, 16, &flags), 0);
    assert_int_equal(flags, XENIRQSTAT_needs_eoi);
    assert_int_equal(pirq_status(zero, 17, &flags), -XEN_EINVAL);

    assert_int_equal(pirq_eoi(zero, 16), 0); /* nothing to end: not passed on */
    assert_int_equal(fake_irq[16].done, 0);
    fake_irq_fire(16);
    assert_true(take(zero, 0, port));
    assert_int_equal(pirq_eoi(zero, 16), 0);
    assert_int_equal(pirq_eoi(zero, 16), 0);
    assert_int_equal(fake_irq[16].done, 1);
    assert_int_equal(pirq_eoi(zero, 4000), -XEN_EINVAL);

    struct evtchn_bind_pirq b = {.pirq = 16};
    assert_int_equal(op_as(zero, EVTCHNOP_bind_pirq, &b), -XEN_EEXIST);
    b.pirq = 17;
    assert_int_equal(op_as(zero, EVTCHNOP_bind_pirq, &b), -XEN_EINVAL); /* not mapped */
    b.flags = 2;
    assert_int_equal(op_as(zero, EVTCHNOP_bind_pirq, &b), -XEN_EINVAL);
    assert_int_equal(op_as(one, EVTCHNOP_bind_pirq, &b), -XEN_EINVAL); /* no pirqs at all */

    zero->vcpu[2]->sched.cpu = 3;
    assert_int_equal(vcpu_as(zero, port, 2), 0);
    assert_int_equal(fake_irq[16].cpu, 3);
    fake_irq_fire(16);
    assert_true(take(zero, 2, port));
    assert_int_equal(close_as(zero, port), 0);
    assert_null(fake_irq[16].handler);
    assert_int_equal(pirq_eoi(zero, 16), -XEN_EINVAL);
    assert_int_equal(bind_pirq(16), port);
}

static void test_pirq_of_two(void **state)
{
    int n = 16;
    assert_int_equal(pirq_map(zero, &n, 16, false), 0);
    assert_int_equal(pirq_map(one, &n, 16, false), 0);
    bind_pirq(16);
    struct evtchn_bind_pirq b = {.pirq = 16, .flags = BIND_PIRQ__WILL_SHARE};
    assert_int_equal(op_as(one, EVTCHNOP_bind_pirq, &b), -XEN_EBUSY);
    assert_int_equal(unbound(one, 2), 1); /* its port went back */
}

static void test_pirq_eoi_map(void **state)
{
    struct page *page = fake_domain_page(zero), *foreign = fake_domain_page(one);
    uint64_t *map = page_to_virt(page);
    int n = 16, m = 4;
    fake_irq[16].level = true;
    assert_int_equal(pirq_map(zero, &n, 16, false), 0);
    assert_int_equal(pirq_map(zero, &m, 4, false), 0);
    evtchn_port_t port = bind_pirq(16);
    assert_int_equal(pirq_set_eoi_map(zero, gfn(page_to_mfn(foreign).n), false), -XEN_EINVAL);
    assert_int_equal(pirq_set_eoi_map(zero, gfn(~0UL), false), -XEN_EINVAL);
    assert_int_equal(pirq_set_eoi_map(zero, gfn(page_to_mfn(page).n), true), 0);
    assert_int_equal(pirq_set_eoi_map(zero, gfn(page_to_mfn(page).n), true), -XEN_EBUSY);
    assert_int_equal(map[0], 1u << 16);
    bind_pirq(4);
    assert_int_equal(map[0], 1u << 16);

    /* Version 1: the EOI unmasks the port as well. */
    mask(zero, port);
    fake_irq_fire(16);
    assert_int_equal(pirq_eoi(zero, 16), 0);
    assert_true(take(zero, 0, port));
    assert_int_equal(close_as(zero, port), 0);
    assert_int_equal(map[0], 0);

    pirq_domain_relinquish(zero);
    fake_domain_page_drop(page);
    fake_domain_page_drop(foreign);
}

/* The number goes while the port is bound: the port stays and is silent. */
static void test_pirq_unmap_bound(void **state)
{
    int n = -1;
    assert_int_equal(pirq_map(zero, &n, 200, true), 0);
    evtchn_port_t port = bind_pirq(n);
    assert_int_equal(pirq_unmap(zero, n), 0);
    assert_null(fake_irq[200].handler);
    assert_int_equal(status(zero, port).status, EVTCHNSTAT_pirq);
    assert_int_equal(close_as(zero, port), 0);
}

/* --- races --- */

#define ROUNDS 20000

static volatile bool stop;

static int sender(void *arg)
{
    static struct cpu cpu;
    thread_cpu = &cpu;
    while (!stop)
        for (evtchn_port_t p = 1; p < 4; p++)
            if (event_send(one, p))
                continue;
    return 0;
}

static void test_close_while_sending(void **state)
{
    thrd_t t;
    stop = false;
    assert_int_equal(thrd_create(&t, sender, NULL), thrd_success);
    for (unsigned i = 0; i < ROUNDS; i++) {
        evtchn_port_t far, near = bound(one, two, &far);
        if (i % 3 == 0)
            assert_int_equal(close_as(two, far), 0);
        assert_int_equal(close_as(one, near), 0);
        if (i % 3)
            assert_int_equal(close_as(two, far), 0);
    }
    stop = true;
    thrd_join(t, NULL);
}

/* Deterministic: the sender has read the peer, then the port is closed and opened for another use.
 */
static void test_stale_send(void **state)
{
    evtchn_port_t far, near = bound(one, two, &far);
    struct channel *peer = channel_at(one->event, near)->peer;
    assert_int_equal(close_as(two, far), 0);
    channel_raise(peer);
    struct evtchn_bind_ipi i = {.vcpu = 1};
    assert_int_equal(op_as(two, EVTCHNOP_bind_ipi, &i), 0);
    assert_int_equal(i.port, far);
    take(two, 0, far);
    take(two, 1, far);
    assert_int_equal(send_as(two, far), 0); /* nothing was lost by the stray bit */
    assert_true(take(two, 1, far));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_alloc_unbound),
        TEST(test_bind_interdomain),
        TEST(test_loopback),
        TEST(test_send),
        TEST(test_mask_and_unmask),
        TEST(test_narrow_layout),
        TEST(test_close),
        TEST(test_bind_vcpu),
        TEST(test_ipi),
        TEST(test_status_of_others),
        TEST(test_port_limit),
        TEST(test_small_limits),
        TEST(test_no_memory),
        TEST(test_result_faults),
        TEST(test_vcpu_virq),
        TEST(test_global_virq),
        TEST(test_console_input),
        TEST(test_poll),
        TEST(test_poll_others_port),
        TEST(test_reset),
        TEST(test_death),
        TEST(test_pirq_map),
        TEST(test_pirq_level),
        TEST(test_pirq_of_two),
        TEST(test_pirq_eoi_map),
        TEST(test_pirq_unmap_bound),
        TEST(test_close_while_sending),
        TEST(test_stale_send),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
