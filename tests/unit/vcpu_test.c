/* SOURCES: domain/domain.c domain/vcpu.c domain/shutdown.c domain/relinquish.c domain/vcpu_op.c */
/* SOURCES: domain/runstate.c domain/guest_time.c domain/sched_op.c mm/page.c mm/page_type.c */
/* SOURCES: domain/shared.c lib/bitmap.c lib/range.c lib/spinlock.c lib/string.c */
/* SOURCES: fake/rooms.c fake/time.c fake/alloc.c fake/guest.c fake/cpu.c */
/* vCPUs: the way out, blocking and polling against events, run states, time, timers, vcpu_op. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "domain/internal.h"
#include "domain/shared.h"
#include "event/event.h"
#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/rooms.h"
#include "fake/time.h"
#include "hypercall/table.h"
#include "pv/pv.h"

extern unsigned fake_guest_fault_in;

static struct domain *d;
static struct vcpu *v, *other; /* v is current */

static int set_up(void **state)
{
    static const struct domain_config config = {.max_vcpus = 40, .max_evtchn_port = 1023};
    static bool once;
    fake_rooms_reset();
    fake_time_reset();
    fake_guest_fault_in = 0;
    fake_scale = (struct tsc_scale){.mul = 1u << 31, .shift = 1};
    fake_cpu[0].locks_held = 0;
    fake_cpu[0].need_resched = false;
    if (!once)
        domain_init();
    once = true;
    fake_cpu[0].current = fake_cpu[0].idle;
    assert_int_equal(domain_create(5, &config, &d), 0);
    assert_int_equal(vcpu_create(d, 0, 0), 0);
    assert_int_equal(vcpu_create(d, 1, 0), 0);
    v = d->vcpu[0];
    other = d->vcpu[1];
    v->initialised = true;
    sched_unblock(&v->sched, SCHED_DOWN);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    v->info->evtchn_upcall_mask = 0;
    v->stack->cpu = &fake_cpu[0];
    fake_cpu[0].current = v;
    return 0;
}

static int tear_down(void **state)
{
    fake_cpu[0].current = fake_cpu[0].idle;
    fake_cpu[0].need_resched = false;
    rooms.during_preempt = NULL;
    assert_true(domain_get(d));
    assert_int_equal(domain_destroy(d), 0);
    domain_put(d);
    assert_int_equal(fake_timers_active(), 0);
    return 0;
}

static uint64_t arg(const void *p)
{
    return (uint64_t)p;
}

static void event_arrives(void)
{
    v->info->evtchn_upcall_pending = 1;
    vcpu_kick(v);
}

/* --- the way out --- */

static void nothing_to_do(void **state)
{
    vcpu_leave();
    assert_int_equal(rooms.schedules + rooms.delivers, 0);
    v->info->evtchn_upcall_pending = 1;
    v->info->evtchn_upcall_mask = 1;
    vcpu_leave();
    assert_int_equal(rooms.delivers, 0);
}

static void delivers_once(void **state)
{
    v->info->evtchn_upcall_pending = 1;
    vcpu_leave();
    assert_int_equal(rooms.delivers, 1);
    assert_int_equal(rooms.schedules, 0);
}

static void wakes_up(void)
{
    sched_unblock(&v->sched, SCHED_BLOCKED | SCHED_POLLING | SCHED_PAUSED);
}

static void event_wakes(void)
{
    event_arrives();
}

static void blocked_until_event(void **state)
{
    rooms.during_schedule = event_wakes;
    v->info->evtchn_upcall_mask = 1;
    assert_int_equal(hc_sched_op(SCHEDOP_block, 0), 0);
    assert_int_equal(v->info->evtchn_upcall_mask, 0); /* the ABI unmasks */
    assert_true(v->sched.blockers & SCHED_BLOCKED);
    vcpu_leave();
    assert_int_equal(rooms.schedules, 1);
    assert_int_equal(rooms.delivers, 1);
}

static void block_with_event_pending(void **state)
{
    v->info->evtchn_upcall_mask = 1;
    v->info->evtchn_upcall_pending = 1;
    assert_int_equal(hc_sched_op(SCHEDOP_block, 0), 0);
    assert_int_equal(v->sched.blockers, 0);
    vcpu_leave();
    assert_int_equal(rooms.delivers, 1);
}

static void paused_stays(void **state)
{
    rooms.during_schedule = wakes_up;
    vcpu_pause_nosync(v);
    vcpu_leave();
    assert_int_equal(rooms.schedules, 1);
    v->pause_count = 0;
}

static void killed(void **state)
{
    rooms.during_schedule = wakes_up; /* as a resumed one would be */
    domain_kill(d, "for the test");
    vcpu_leave();
    assert_true(d->shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_crash);
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 1);
    assert_true(rooms.schedules >= 1);
}

static void kills(struct vcpu *w)
{
    w->info->evtchn_upcall_mask = 1;
    domain_kill(w->domain, "no stack to deliver on");
    rooms.during_deliver = NULL;
}

static void killed_by_delivery(void **state)
{
    rooms.during_schedule = wakes_up;
    rooms.during_deliver = kills;
    v->info->evtchn_upcall_pending = 1;
    vcpu_leave();
    assert_true(d->shut_down);
}

static void delivers_without_event_when_asked(void **state)
{
    assert_int_equal(hc_vcpu_op(VCPUOP_send_nmi, 0, 0), 0);
    assert_true(v->pv->nmi_pending);
    vcpu_leave();
    assert_int_equal(rooms.delivers, 1);
}

static void kick_pokes_who_runs(void **state)
{
    other->sched.blockers = 0;
    other->info->evtchn_upcall_mask = 0;
    vcpu_kick(other);
    assert_int_equal(rooms.pokes, 1);
    other->info->evtchn_upcall_mask = 1; /* it looks by itself when it unmasks */
    vcpu_kick(other);
    assert_int_equal(rooms.pokes, 1);
    vcpu_kick(v);
    assert_int_equal(rooms.pokes, 1);
    other->sched.blockers = SCHED_DOWN;
}

/* --- poll --- */

static long poll(unsigned n, ns_t timeout)
{
    static evtchn_port_t ports[200] = {17, 18};
    struct sched_poll p = {.nr_ports = n, .timeout = timeout};
    p.ports.p = ports;
    return hc_sched_op(SCHEDOP_poll, arg(&p));
}

static void poll_finds_it_pending(void **state)
{
    rooms.any_pending = 1;
    assert_int_equal(poll(1, 0), 0);
    assert_int_equal(v->sched.blockers, 0);
    rooms.any_pending = -XEN_EINVAL;
    assert_int_equal(poll(1, 0), -XEN_EINVAL);
    assert_int_equal(v->sched.blockers, 0);
    assert_int_equal(poll(129, 0), -XEN_EINVAL);
}

/* What event/ does when it sees a poller: after we said that we poll, before we looked. */
static void port_arrives(void)
{
    assert_true(v->sched.blockers & SCHED_POLLING);
    assert_int_equal(v->poll_port, 17);
    v->poll_event = true;
    sched_unblock(&v->sched, SCHED_POLLING);
}

static void poll_races_with_event(void **state)
{
    rooms.during_any_pending = port_arrives;
    assert_int_equal(poll(1, 0), 0);
    assert_int_equal(v->sched.blockers, 0);
    vcpu_leave(); /* fails when it would sleep */
}

static void poll_times_out(void **state)
{
    assert_int_equal(poll(2, fake_now + MILLISECONDS(5)), 0);
    assert_int_equal(v->poll_port, 0); /* several */
    assert_int_equal(v->sched.blockers, SCHED_POLLING);
    fake_time_advance(MILLISECONDS(4));
    assert_int_equal(v->sched.blockers, SCHED_POLLING);
    fake_time_advance(MILLISECONDS(1));
    assert_int_equal(v->sched.blockers, 0);

    /* A timeout of before does not end a poll without one. */
    assert_int_equal(poll(1, fake_now + MILLISECONDS(5)), 0);
    event_arrives();
    assert_int_equal(v->sched.blockers, 0);
    v->info->evtchn_upcall_pending = 0;
    assert_int_equal(poll(1, 0), 0);
    fake_time_advance(SECONDS(1));
    assert_int_equal(v->sched.blockers, SCHED_POLLING);
    sched_unblock(&v->sched, SCHED_POLLING);
}

static void poll_with_upcall_pending(void **state)
{
    v->info->evtchn_upcall_pending = 1;
    assert_int_equal(poll(1, 0), 0);
    assert_int_equal(v->sched.blockers, 0);
    v->info->evtchn_upcall_mask = 1; /* masked: polling is what such a guest wants */
    assert_int_equal(poll(1, 0), 0);
    assert_int_equal(v->sched.blockers, SCHED_POLLING);
    sched_unblock(&v->sched, SCHED_POLLING);
}

static void bad_pointers(void **state)
{
    fake_guest_fault_in = 1;
    assert_int_equal(poll(1, 0), -XEN_EFAULT);
    fake_guest_fault_in = 2;
    assert_int_equal(poll(1, 0), -XEN_EFAULT);
    fake_guest_fault_in = 0;
    assert_int_equal(v->sched.blockers, 0);
    assert_int_equal(hc_sched_op(SCHEDOP_shutdown, 8), -XEN_EFAULT);
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, 8), -XEN_EFAULT);
    assert_int_equal(hc_sched_op(77, 0), -XEN_ENOSYS);
}

/* --- other domains, pinning --- */

static void remote_shutdown(void **state)
{
    struct sched_remote_shutdown r = {.domain_id = 6, .reason = SHUTDOWN_reboot};
    assert_int_equal(hc_sched_op(SCHEDOP_remote_shutdown, arg(&r)), -XEN_ESRCH);
    r.domain_id = 5;
    rooms.permission = -XEN_EPERM;
    assert_int_equal(hc_sched_op(SCHEDOP_remote_shutdown, arg(&r)), -XEN_EPERM);
    assert_false(d->shut_down);
    rooms.permission = 0;
    assert_int_equal(hc_sched_op(SCHEDOP_remote_shutdown, arg(&r)), 0);
    assert_true(d->shut_down);
    assert_int_equal(d->refs, 1);
}

static void pin_override(void **state)
{
    struct sched_pin_override p = {.pcpu = 0};
    assert_int_equal(hc_sched_op(SCHEDOP_pin_override, arg(&p)), -XEN_EPERM);
    d->privileged = true;
    p.pcpu = -1;
    assert_int_equal(hc_sched_op(SCHEDOP_pin_override, arg(&p)), -XEN_EINVAL);
    p.pcpu = 3; /* not online */
    assert_int_equal(hc_sched_op(SCHEDOP_pin_override, arg(&p)), -XEN_EINVAL);
    p.pcpu = 0;
    assert_int_equal(hc_sched_op(SCHEDOP_pin_override, arg(&p)), 0);
    assert_int_equal(v->sched.hard.bits[0], 1);
    struct vcpu_get_physid id;
    assert_int_equal(hc_vcpu_op(VCPUOP_get_physid, 0, arg(&id)), 0);
    assert_int_equal(hc_sched_op(SCHEDOP_pin_override, arg(&p)), -XEN_EBUSY);
    p.pcpu = -1;
    assert_int_equal(hc_sched_op(SCHEDOP_pin_override, arg(&p)), 0);
    assert_int_equal(v->sched.hard.bits[0], ~0UL);
    assert_int_equal(hc_vcpu_op(VCPUOP_get_physid, 0, arg(&id)), -XEN_EINVAL);
    d->privileged = false;
}

/* --- run states --- */

static void runstates_add_up(void **state)
{
    struct vcpu_runstate_info r;
    ns_t begin = v->runstate.state_entry_time;
    runstate_entered(&v->sched, RUNSTATE_runnable, fake_now += 100);
    runstate_entered(&v->sched, RUNSTATE_running, fake_now += 200);
    runstate_entered(&v->sched, RUNSTATE_blocked, fake_now += 300);
    runstate_entered(&v->sched, RUNSTATE_running, fake_now += 400);
    fake_now += 50;
    assert_int_equal(hc_vcpu_op(VCPUOP_get_runstate_info, 0, arg(&r)), 0);
    assert_int_equal(r.state, RUNSTATE_running);
    assert_int_equal(r.time[RUNSTATE_offline], 100);
    assert_int_equal(r.time[RUNSTATE_runnable], 200);
    assert_int_equal(r.time[RUNSTATE_running], 350);
    assert_int_equal(r.time[RUNSTATE_blocked], 400);
    assert_int_equal(r.time[0] + r.time[1] + r.time[2] + r.time[3], fake_now - begin);
}

static void runstate_area(void **state)
{
    static struct vcpu_runstate_info area;
    uint64_t address = arg(&area);
    memset(&area, 0xee, sizeof(area));
    assert_int_equal(hc_vcpu_op(VCPUOP_register_runstate_memory_area, 0, arg(&address)), 0);
    assert_int_equal(area.state, RUNSTATE_offline);
    runstate_entered(&v->sched, RUNSTATE_running, fake_now += 10);
    assert_true(v->work & VCPU_WORK_AREAS);
    vcpu_leave();
    assert_int_equal(area.state, RUNSTATE_running);
    assert_int_equal(area.state_entry_time, fake_now);

    /* From user mode, whose tables do not have the kernel's addresses. */
    v->pv->kernel_mode = false;
    d->vm_assist = 1u << VMASST_TYPE_runstate_update_flag;
    runstate_entered(&v->sched, RUNSTATE_running, fake_now += 10);
    vcpu_leave();
    assert_true(rooms.user_mode_switches);
    assert_false(v->pv->kernel_mode);
    assert_int_equal(area.state_entry_time, fake_now); /* the flag is off again */

    /* One that cannot be written is not kept. */
    uint64_t bad = 64;
    assert_int_equal(hc_vcpu_op(VCPUOP_register_runstate_memory_area, 0, arg(&bad)), -XEN_EFAULT);
    assert_int_equal(v->runstate_guest.addr, address);
    bad = HV_VIRT_START;
    assert_int_equal(hc_vcpu_op(VCPUOP_register_runstate_memory_area, 1, arg(&bad)), -XEN_EFAULT);
    v->runstate_guest = guest_ptr(0);
}

/* --- time --- */

/* As xen/xen.h tells guests to compute it. */
static ns_t guest_ns(const struct vcpu_time_info *t, uint64_t tsc)
{
    uint64_t delta = tsc - t->tsc_timestamp;
    delta = t->tsc_shift >= 0 ? delta << t->tsc_shift : delta >> -t->tsc_shift;
    return t->system_time + (ns_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
}

static void time_as_the_guest_computes_it(void **state)
{
    volatile struct vcpu_time_info *t = &v->info->time;
    uint32_t before = t->version;
    assert_false(before & 1);
    /* 2.5 GHz: ns = tsc * 0.4; mul is a fraction of 2^32 */
    fake_scale =
        (struct tsc_scale){.base_tsc = 5000000, .base_ns = 777, .mul = 3435973837u, .shift = -1};
    guest_time_update(v);
    assert_int_equal(t->version, before + 2);
    ns_t ns = guest_ns(&v->info->time, 5000000 + 2500000000);
    assert_in_range(ns, 777 + SECONDS(1) - 2, 777 + SECONDS(1) + 2);
    assert_int_equal(t->flags, XEN_PVCLOCK_TSC_STABLE_BIT);
    fake_tsc_stable = false;
    guest_time_update(v);
    assert_int_equal(t->flags, 0);
    fake_tsc_stable = true;
    fake_scale.shift = 3;
    guest_time_update(v);
    assert_int_equal(guest_ns(&v->info->time, 5000000 + 1000), 777 + 6400); /* 8000 * 0.8 */
}

static void time_area(void **state)
{
    static struct vcpu_time_info area;
    uint64_t address = arg(&area);
    fake_scale.base_ns = 4242;
    guest_time_update(v);
    assert_int_equal(hc_vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, arg(&address)), 0);
    assert_memory_equal(&area, &v->info->time, sizeof(area));
    memset(&area, 0, sizeof(area));
    fake_scale.base_ns = 4343;
    fake_scale.base_tsc = 1;
    sched_hooks->load(v); /* it comes to a CPU and the scale has changed */
    vcpu_leave();
    assert_int_equal(area.system_time, 4343);
    assert_false(area.version & 1);
    assert_memory_equal(&area, &v->info->time, sizeof(area));
}

static void wall_clock(void **state)
{
    struct shared_info *s = d->shared;
    uint32_t before = s->wc_version;
    fake_wall_seconds = 0x2fffffff0;
    fake_wall_nanoseconds = 99;
    d->time_offset = -0x10;
    guest_wallclock_update(d);
    assert_int_equal((uint64_t)s->wc_sec_hi << 32 | s->wc_sec, 0x2ffffffe0);
    assert_int_equal(s->wc_nsec, 99);
    assert_int_equal(s->wc_version, before + 2);
}

static void timers(void **state)
{
    struct vcpu_set_singleshot_timer s = {.timeout_abs_ns = fake_now + MILLISECONDS(3)};
    struct vcpu_set_periodic_timer p = {.period_ns = MILLISECONDS(10)};
    assert_int_equal(hc_vcpu_op(VCPUOP_set_singleshot_timer, 0, arg(&s)), 0);
    fake_time_advance(MILLISECONDS(3));
    assert_int_equal(rooms.virq[VIRQ_TIMER], 1);
    s.flags = VCPU_SSHOTTMR_future;
    s.timeout_abs_ns = fake_now - 1;
    assert_int_equal(hc_vcpu_op(VCPUOP_set_singleshot_timer, 0, arg(&s)), -XEN_ETIME);
    assert_int_equal(hc_vcpu_op(VCPUOP_set_singleshot_timer, 1, arg(&s)), -XEN_EINVAL);
    s.timeout_abs_ns = fake_now + 10;
    assert_int_equal(hc_vcpu_op(VCPUOP_set_singleshot_timer, 0, arg(&s)), 0);
    assert_int_equal(hc_vcpu_op(VCPUOP_stop_singleshot_timer, 0, 0), 0);
    fake_time_advance(MILLISECONDS(1));
    assert_int_equal(rooms.virq[VIRQ_TIMER], 1);

    assert_int_equal(hc_set_timer_op(fake_now - 5), 0); /* past: at once */
    fake_time_advance(1);
    assert_int_equal(rooms.virq[VIRQ_TIMER], 2);
    assert_int_equal(hc_set_timer_op(fake_now + 5), 0);
    assert_int_equal(hc_set_timer_op(0), 0);
    assert_int_equal(hc_set_timer_op(~0UL), 0);
    assert_true(v->singleshot.expires < fake_now + SECONDS(86400UL * 400));

    assert_int_equal(hc_vcpu_op(VCPUOP_set_periodic_timer, 0, arg(&p)), 0);
    fake_time_advance(MILLISECONDS(105));
    assert_int_equal(rooms.virq[VIRQ_TIMER], 12);
    p.period_ns = 1000;
    assert_int_equal(hc_vcpu_op(VCPUOP_set_periodic_timer, 0, arg(&p)), -XEN_EINVAL);
    p.period_ns = 0;
    assert_int_equal(hc_vcpu_op(VCPUOP_set_periodic_timer, 0, arg(&p)), -XEN_EINVAL);
    assert_int_equal(hc_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    fake_time_advance(SECONDS(1));
    assert_int_equal(rooms.virq[VIRQ_TIMER], 12);
}

/* --- bringing up and down --- */

static void up_and_down(void **state)
{
    struct vcpu_guest_context *c = calloc(1, sizeof(*c));
    assert_int_equal(hc_vcpu_op(VCPUOP_is_up, 1, 0), 0);
    assert_int_equal(hc_vcpu_op(VCPUOP_up, 1, 0), -XEN_EINVAL);
    assert_int_equal(hc_vcpu_op(VCPUOP_is_up, 2, 0), -XEN_ENOENT);
    assert_int_equal(hc_vcpu_op(VCPUOP_is_up, 1UL << 40, 0), -XEN_ENOENT);
    assert_int_equal(hc_vcpu_op(VCPUOP_initialise, 1, 8), -XEN_EFAULT);
    rooms.set_context = -XEN_EPERM;
    assert_int_equal(hc_vcpu_op(VCPUOP_initialise, 1, arg(c)), -XEN_EPERM);
    assert_int_equal(hc_vcpu_op(VCPUOP_up, 1, 0), -XEN_EINVAL);
    rooms.set_context = 0;
    assert_int_equal(hc_vcpu_op(VCPUOP_initialise, 1, arg(c)), 0);
    assert_int_equal(hc_vcpu_op(VCPUOP_initialise, 1, arg(c)), -XEN_EEXIST);
    assert_int_equal(hc_vcpu_op(VCPUOP_up, 1, 0), 0);
    assert_int_equal(hc_vcpu_op(VCPUOP_is_up, 1, 0), 1);
    assert_int_equal(other->sched.blockers, 0);
    assert_int_equal(hc_vcpu_op(VCPUOP_down, 1, 0), 0);
    assert_int_equal(hc_vcpu_op(VCPUOP_is_up, 1, 0), 0);
    assert_false(d->shut_down);
    assert_int_equal(hc_vcpu_op(VCPUOP_down, 0, 0), 0); /* the last one */
    assert_true(d->shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_poweroff);
    assert_int_equal(hc_vcpu_op(99, 0, 0), -XEN_ENOSYS);
    free(c);
}

static void beyond_the_legacy_ones(void **state)
{
    struct vcpu_guest_context *c = calloc(1, sizeof(*c));
    assert_int_equal(vcpu_create(d, 35, 0), 0);
    struct vcpu *far = d->vcpu[35];
    assert_true(vcpu_info_is_dummy(far->info));
    assert_int_equal(hc_vcpu_op(VCPUOP_initialise, 35, arg(c)), -XEN_EINVAL);
    struct page *page = page_alloc(0, ALLOC_ZERO);
    d->max_pages = 10;
    assert_int_equal(page_assign(d, page, 0), 0);
    struct vcpu_register_vcpu_info r = {.mfn = page_to_mfn(page).n, .offset = 64};
    assert_int_equal(hc_vcpu_op(VCPUOP_register_vcpu_info, 35, arg(&r)), 0);
    assert_int_equal(far->info->evtchn_upcall_mask, 1);
    assert_int_equal(far->info->time.version & 1, 0);
    assert_int_equal(far->info->time.tsc_to_system_mul, fake_scale.mul);
    assert_int_equal(hc_vcpu_op(VCPUOP_initialise, 35, arg(c)), 0);
    vcpu_info_release(far);
    assert_true(page_drop_allocation(page));
    page_put(page);
    free(c);
}

/* --- the layouts of 64- and 32-bit code (domain/shared.h) --- */

static uint32_t word(const void *p, unsigned offset)
{
    uint32_t w;
    memcpy(&w, (const uint8_t *)p + offset, sizeof(w));
    return w;
}

static void narrow_and_back(void **state)
{
    struct vcpu_info *near = v->info, *far = other->info;
    fake_wall_seconds = 0x312345678;
    fake_wall_nanoseconds = 55;
    near->evtchn_pending_sel = 1UL << 40;
    guest_time_update(v);
    shared_set_narrow(d, true);
    assert_int_equal(word(d->shared, 2304) & 1, 0);
    assert_true(word(d->shared, 2304) != 0);
    assert_int_equal(word(d->shared, 2308), 0x12345678);
    assert_int_equal(word(d->shared, 2312), 55);
    assert_int_equal(word(d->shared, 2340), 3);
    /* One has not looked yet, the other has nothing to look at. */
    assert_int_equal(near->evtchn_upcall_pending, 1);
    assert_int_equal(word(near, 4), ~0u);
    assert_int_equal(near->evtchn_pending_sel, 0);
    assert_int_equal(far->evtchn_upcall_pending, 0);
    assert_int_equal(word(far, 4), 0);
    assert_int_equal(word(near, 32 + 24), fake_scale.mul);

    /* What was set up again for the same code stays as it is. */
    near->evtchn_upcall_pending = 0;
    shared_set_narrow(d, true);
    assert_int_equal(near->evtchn_upcall_pending, 0);

    memset((uint8_t *)near + 4, 0, 4);
    memset((uint8_t *)far + 4, 1, 4);
    memset((uint8_t *)d->shared + 2048, 0xff, 256); /* pending bits and mask */
    shared_set_narrow(d, false);
    assert_int_equal(near->evtchn_upcall_pending, 0);
    assert_int_equal(near->evtchn_pending_sel, 0);
    assert_int_equal(far->evtchn_upcall_pending, 1);
    assert_int_equal(far->evtchn_pending_sel, ~0UL);
    assert_int_equal(word(far, 4), 0);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(d->shared->evtchn_pending[i], i < 16 ? ~0UL : 0);
    assert_int_equal(d->shared->wc_sec, 0x12345678);
    assert_int_equal(d->shared->wc_sec_hi, 3);
}

static void narrow_runstate_area(void **state)
{
    static uint8_t area[64];
    uint64_t address = arg(area), entry;
    memset(area, 0xee, sizeof(area));
    runstate_entered(&v->sched, RUNSTATE_runnable, fake_now += 10);
    runstate_entered(&v->sched, RUNSTATE_running, fake_now += 30);
    shared_set_narrow(d, true);
    assert_int_equal(hc_vcpu_op(VCPUOP_register_runstate_memory_area, 0, arg(&address)), 0);
    assert_int_equal(word(area, 0), RUNSTATE_running);
    memcpy(&entry, area + 4, sizeof(entry));
    assert_int_equal(entry, fake_now);
    memcpy(&entry, area + 12 + 8 * RUNSTATE_runnable, sizeof(entry));
    assert_int_equal(entry, 30);
    assert_int_equal(area[43], 0);
    assert_int_equal(area[44], 0xee);
    v->runstate_guest = guest_ptr(0);
}

static void narrow_vcpu_info(void **state)
{
    struct page *page = page_alloc(0, ALLOC_ZERO);
    d->max_pages = 10;
    assert_int_equal(page_assign(d, page, 0), 0);
    struct vcpu_register_vcpu_info r = {.mfn = page_to_mfn(page).n, .offset = 68};
    assert_int_equal(hc_vcpu_op(VCPUOP_register_vcpu_info, 1, arg(&r)), -XEN_EINVAL);
    shared_set_narrow(d, true);
    r.offset = 66;
    assert_int_equal(hc_vcpu_op(VCPUOP_register_vcpu_info, 1, arg(&r)), -XEN_EINVAL);
    r.offset = 72;
    assert_int_equal(hc_vcpu_op(VCPUOP_register_vcpu_info, 1, arg(&r)), 0);
    assert_int_equal(word(other->info, 4), ~0u);
    assert_int_equal(other->info->evtchn_pending_sel, 0);
    assert_int_equal(other->info->evtchn_upcall_pending, 1);
    vcpu_info_release(other);
    shared_set_narrow(d, false); /* who has none is left out */
    assert_true(page_drop_allocation(page));
    page_put(page);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nothing_to_do),
        TEST(delivers_once),
        TEST(blocked_until_event),
        TEST(block_with_event_pending),
        TEST(paused_stays),
        TEST(killed),
        TEST(killed_by_delivery),
        TEST(delivers_without_event_when_asked),
        TEST(kick_pokes_who_runs),
        TEST(poll_finds_it_pending),
        TEST(poll_races_with_event),
        TEST(poll_times_out),
        TEST(poll_with_upcall_pending),
        TEST(bad_pointers),
        TEST(remote_shutdown),
        TEST(pin_override),
        TEST(runstates_add_up),
        TEST(runstate_area),
        TEST(time_as_the_guest_computes_it),
        TEST(time_area),
        TEST(wall_clock),
        TEST(timers),
        TEST(up_and_down),
        TEST(beyond_the_legacy_ones),
        TEST(narrow_and_back),
        TEST(narrow_runstate_area),
        TEST(narrow_vcpu_info),
    };
    fake_ram_reset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
