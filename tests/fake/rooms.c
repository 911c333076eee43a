#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/bootinfo.h"
#include "console/console.h"
#include "hypercall/permission.h"
#include "event/event.h"
#include "fake/cpu.h"
#include "fake/rooms.h"
#include "fake/alloc.h"
#include "grant/grant.h"
#include "pv/pv.h"

struct fake_rooms rooms;
struct boot_options boot_options;
const struct sched_hooks *sched_hooks;

void fake_rooms_reset(void)
{
    memset(&rooms, 0, sizeof(rooms));
}

/* --- sched --- */

void sched_entity_init(struct sched_entity *e, unsigned cpu)
{
    memset(e, 0, sizeof(*e));
    e->blockers = SCHED_DOWN;
    e->cpu = cpu;
    e->weight = SCHED_WEIGHT_DEFAULT;
    memset(&e->hard, 0xff, sizeof(e->hard));
    memset(&e->soft, 0xff, sizeof(e->soft));
}

void sched_stack_init(struct sched_entity *e, struct stack_top *stack, void (*entry)(void))
{
    e->stack = stack;
}

void sched_entity_fini(struct sched_entity *e)
{
    assert_false(e->on_cpu);
}

void sched_set_idle(struct cpu *c, struct sched_entity *idle)
{
    idle->stack->cpu = c;
    c->idle = c->current = idle->vcpu;
}

void sched_block(struct sched_entity *e, uint32_t bit)
{
    __atomic_fetch_or(&e->blockers, bit, __ATOMIC_SEQ_CST);
    if (e->vcpu == this_cpu()->current)
        this_cpu()->need_resched = true;
}

void sched_unblock(struct sched_entity *e, uint32_t bit)
{
    __atomic_fetch_and(&e->blockers, ~bit, __ATOMIC_SEQ_CST);
}

bool sched_is_quiet(const struct sched_entity *e)
{
    return !e->on_cpu && !e->in_hypervisor;
}

void sched_wait_quiet(struct sched_entity *e)
{
    while (!sched_is_quiet(e))
        preempt_point();
}

void sched_poke(struct sched_entity *e)
{
    rooms.pokes++;
}

void sched_yield(void)
{
    this_cpu()->need_resched = true;
}

int sched_set_affinity(struct sched_entity *e, const struct cpu_mask *hard,
                       const struct cpu_mask *soft)
{
    if (!(hard->bits[0] & cpus_online.bits[0]))
        return -XEN_EINVAL;
    e->hard = *hard;
    e->soft = *soft;
    return 0;
}

void schedule(void)
{
    rooms.schedules++;
    this_cpu()->need_resched = false;
    if (this_cpu()->current->sched.blockers && rooms.during_schedule)
        rooms.during_schedule();
    if (this_cpu()->current->sched.blockers)
        fail_msg("a blocked vCPU would run again");
}

void preempt_point(void)
{
    assert_int_equal(this_cpu()->locks_held, 0);
    if (rooms.during_preempt)
        rooms.during_preempt();
}

/* --- event --- */

int event_domain_init(struct domain *d, unsigned max_port)
{
    d->event = zalloc(64);
    return d->event ? 0 : -XEN_ENOMEM;
}

void event_domain_relinquish(struct domain *d)
{
}

void event_domain_fini(struct domain *d)
{
    zfree(d->event);
    d->event = NULL;
}

int event_vcpu_init(struct vcpu *v)
{
    v->event = zalloc(64);
    return v->event ? 0 : -XEN_ENOMEM;
}

void event_vcpu_fini(struct vcpu *v)
{
    zfree(v->event);
    v->event = NULL;
}

void event_send_virq(struct vcpu *v, unsigned virq)
{
    rooms.virq[virq]++;
}

void event_send_global_virq(unsigned virq)
{
    rooms.virq[virq]++;
}

int event_any_pending(struct domain *d, const evtchn_port_t *ports, unsigned n)
{
    if (rooms.during_any_pending)
        rooms.during_any_pending();
    return rooms.any_pending;
}

int pirq_domain_init(struct domain *d)
{
    d->pirq = zalloc(64);
    return d->pirq ? 0 : -XEN_ENOMEM;
}

void pirq_domain_relinquish(struct domain *d)
{
}

void pirq_domain_fini(struct domain *d)
{
    zfree(d->pirq);
    d->pirq = NULL;
}

/* --- grant --- */

int grant_domain_init(struct domain *d, int max_frames, int max_maptrack)
{
    d->grant = zalloc(64);
    return d->grant ? 0 : -XEN_ENOMEM;
}

void grant_domain_relinquish(struct domain *d)
{
}

void grant_domain_fini(struct domain *d)
{
    zfree(d->grant);
    d->grant = NULL;
}

unsigned grant_table_frames(struct domain *d)
{
    return 0;
}

int grant_table_frame(struct domain *d, unsigned i, mfn_t *frame)
{
    return -XEN_EINVAL;
}

/* --- pv --- */

static int kind_domain_init(struct domain *d)
{
    d->pv = zalloc(64);
    return d->pv ? 0 : -XEN_ENOMEM;
}

static void kind_domain_fini(struct domain *d)
{
    zfree(d->pv);
    d->pv = NULL;
}

static int kind_relinquish(struct domain *d)
{
    assert_true(d->dying);
    if (rooms.relinquish_slices) {
        rooms.relinquish_slices--;
        return -XEN_EAGAIN;
    }
    rooms.relinquished++;
    return 0;
}

static int kind_vcpu_init(struct vcpu *v)
{
    v->pv = zalloc(sizeof(*v->pv));
    if (v->pv)
        v->pv->kernel_mode = true;
    return v->pv ? 0 : -XEN_ENOMEM;
}

static void kind_vcpu_fini(struct vcpu *v)
{
    zfree(v->pv);
    v->pv = NULL;
}

static void kind_switch(struct vcpu *v)
{
}

static void kind_deliver(struct vcpu *v)
{
    rooms.delivers++;
    if (rooms.during_deliver)
        rooms.during_deliver(v);
    else
        v->info->evtchn_upcall_mask = 1;
}

static void kind_send_nmi(struct vcpu *v)
{
    v->pv->nmi_pending = true;
    vcpu_add_work(v, VCPU_WORK_DELIVER);
}

static const struct guest_ops kind = {
    .domain_init = kind_domain_init,
    .domain_fini = kind_domain_fini,
    .domain_relinquish = kind_relinquish,
    .vcpu_init = kind_vcpu_init,
    .vcpu_fini = kind_vcpu_fini,
    .switch_out = kind_switch,
    .switch_in = kind_switch,
    .deliver = kind_deliver,
    .send_nmi = kind_send_nmi,
};

__attribute__((constructor)) static void set_kind(void)
{
    pv_ops_table = &kind;
}

void pv_switch_mode(struct vcpu *v, bool to_kernel)
{
    v->pv->kernel_mode = to_kernel;
    rooms.user_mode_switches = true;
}

int pv_set_context(struct vcpu *v, const struct vcpu_guest_context *c)
{
    return rooms.set_context;
}

/* --- the rest --- */

void *vmap_frames(const mfn_t *frames, unsigned n, unsigned flags)
{
    void *p = zalloc(1); /* may fail, and is counted */
    if (!p)
        return NULL;
    zfree(p);
    p = aligned_alloc(n * PAGE_SIZE, n * PAGE_SIZE);
    memset(p, 0, n * PAGE_SIZE);
    return p;
}

void vunmap(void *va, unsigned n)
{
    free(va);
}

int permission_check(const struct domain *caller, unsigned nr, unsigned op,
                     const struct domain *target)
{
    return rooms.permission;
}

void console_force_sync(void)
{
}

void key_register(char key, const char *help, key_handler fn)
{
}

void machine_halt(void)
{
    longjmp(rooms.machine_end, MACHINE_HALTED);
}

void machine_reboot(void)
{
    longjmp(rooms.machine_end, MACHINE_REBOOTED);
}

int fake_machine_end(void (*fn)(void *), void *arg)
{
    int how = setjmp(rooms.machine_end);
    if (how == MACHINE_RUNS)
        fn(arg);
    return how;
}
