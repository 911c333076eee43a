/* SOURCES: domain/domain.c domain/vcpu.c domain/shutdown.c domain/relinquish.c */
/* SOURCES: domain/runstate.c domain/guest_time.c domain/sched_op.c mm/page.c mm/page_type.c */
/* SOURCES: domain/shared.c lib/bitmap.c lib/range.c lib/spinlock.c lib/string.c */
/* SOURCES: fake/rooms.c fake/time.c fake/alloc.c fake/guest.c fake/cpu.c */
/* Domains from creation to the last reference: all or nothing, counts, ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/bootinfo.h"
#include "domain/internal.h"
#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/rooms.h"
#include "fake/time.h"
#include "hypercall/table.h"

static unsigned live; /* allocations before the test */

static const struct domain_config config = {
    .max_vcpus = 4, .max_evtchn_port = 1023, .max_grant_frames = -1, .max_maptrack_frames = -1};

static struct domain *make(domid_t id, unsigned vcpus)
{
    struct domain *d = NULL;
    assert_int_equal(domain_create(id, &config, &d), 0);
    for (unsigned i = 0; i < vcpus; i++)
        assert_int_equal(vcpu_create(d, i, 0), 0);
    d->max_pages = 100;
    return d;
}

/* Destroys it through a reference of the test's own, as domctl does. */
static void destroy(struct domain *d)
{
    assert_true(domain_get(d));
    assert_int_equal(domain_destroy(d), 0);
    domain_put(d);
}

static int set_up(void **state)
{
    static bool once;
    fake_rooms_reset();
    fake_time_reset();
    fake_alloc_fail_in = 0;
    fake_cpu[0].locks_held = 0;
    fake_cpu[0].need_resched = false;
    if (!once)
        domain_init();
    once = true;
    fake_cpu[0].current = fake_cpu[0].idle;
    live = fake_alloc_live;
    return 0;
}

static int tear_down(void **state)
{
    assert_int_equal(fake_alloc_live, live);
    assert_int_equal(fake_timers_active(), 0);
    return 0;
}

static void creation_is_all_or_nothing(void **state)
{
    struct domain *d;
    unsigned failures = 0;
    int rc;
    for (unsigned n = 1;; n++) {
        fake_alloc_fail_in = n;
        rc = domain_create(5, &config, &d);
        if (rc == 0)
            break;
        failures++;
        assert_int_equal(rc, -XEN_ENOMEM);
        assert_int_equal(fake_alloc_live, live);
        assert_null(domain_find(5));
    }
    fake_alloc_fail_in = 0;
    assert_true(failures >= 6);

    unsigned with_domain = fake_alloc_live;
    for (failures = 0;; failures++) {
        fake_alloc_fail_in = failures + 1;
        rc = vcpu_create(d, 1, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -XEN_ENOMEM);
        assert_int_equal(fake_alloc_live, with_domain);
        assert_null(d->vcpu[1]);
    }
    fake_alloc_fail_in = 0;
    assert_true(failures >= 5);
    destroy(d);
}

static void creation_refuses(void **state)
{
    struct domain *d, *d5 = make(5, 1);
    struct domain_config c = config;
    assert_int_equal(domain_create(5, &config, &d), -XEN_EEXIST);
    assert_int_equal(domain_create(MAX_DOMID, &config, &d), -XEN_EINVAL);
    c.max_vcpus = 0;
    assert_int_equal(domain_create(6, &c, &d), -XEN_EINVAL);
    c.max_vcpus = MAX_VCPUS + 1;
    assert_int_equal(domain_create(6, &c, &d), -XEN_EINVAL);
    assert_int_equal(vcpu_create(d5, 0, 0), -XEN_EEXIST);
    assert_int_equal(vcpu_create(d5, 4, 0), -XEN_EINVAL);
    assert_int_equal(vcpu_create(d5, 1, 3), -XEN_EINVAL); /* that CPU is not online */
    destroy(d5);
}

static void finding_in_order(void **state)
{
    struct domain *d9 = make(9, 0), *d3 = make(3, 0), *last = make(MAX_DOMID - 1, 0), *d;
    unsigned n = 0;
    domid_t seen[3];
    for_each_domain(d)
        seen[n++] = d->id;
    assert_int_equal(n, 3);
    assert_int_equal(seen[0], 3);
    assert_int_equal(seen[1], 9);
    assert_int_equal(seen[2], MAX_DOMID - 1);
    assert_ptr_equal(domain_find(9), d9);
    assert_null(domain_find(4));
    assert_null(domain_find(DOMID_SELF));
    assert_ptr_equal(domain_find_or_self(DOMID_SELF), &idle_domain);

    d = domain_next(4);
    assert_ptr_equal(d, d9);
    assert_int_equal(d9->refs, 2);
    domain_put(d);
    assert_null(domain_next(MAX_DOMID));

    assert_int_equal(domain_free_id(3), 4);
    assert_int_equal(domain_free_id(0), 1);
    assert_int_equal(domain_free_id(MAX_DOMID - 1), 1); /* round the end, never 0 */
    destroy(d3);
    assert_null(domain_find(3));
    assert_int_equal(domain_free_id(3), 3);
    destroy(d9);
    destroy(last);
}

static void references_keep_it(void **state)
{
    struct domain *d = make(7, 2);
    struct page *page = page_alloc(0, 0);
    assert_int_equal(page_assign(d, page, 0), 0); /* as a frame that dom0 still maps */
    rooms.relinquish_slices = 3;
    destroy(d);
    assert_int_equal(rooms.relinquished, 1);
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 1);
    assert_ptr_equal(domain_find(7), d);
    assert_true(d->dead);
    assert_int_equal(page_assign(d, page, 0), -XEN_EINVAL); /* nothing new for the dying */
    assert_int_equal(vcpu_create(d, 3, 0), -XEN_EINVAL);

    assert_true(page_drop_allocation(page));
    page_put(page);
    assert_null(domain_find(7));
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 2);
}

/* shared_info mapped by another domain: the frame is not given to anybody while it is. */
static void shown_pages_keep_it(void **state)
{
    struct domain *d = make(7, 1);
    struct page *shared = virt_to_page(d->shared);
    assert_true(page_get(shared, d));
    destroy(d);
    assert_null(domain_find(7)); /* no more to be found */
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 1);
    assert_true(fake_alloc_live > live);
    fake_time_advance(SECONDS(2));
    assert_true(fake_alloc_live > live);
    page_put(shared);
    fake_time_advance(SECONDS(1));
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 2);
}

static void some_cannot_be_destroyed(void **state)
{
    assert_int_equal(domain_destroy(dom_io), -XEN_EINVAL);
    assert_int_equal(domain_destroy(dom_xen), -XEN_EINVAL);
    assert_int_equal(domain_destroy(&idle_domain), -XEN_EINVAL);
    struct domain *d = make(7, 1);
    d->privileged = true;
    assert_int_equal(domain_destroy(d), -XEN_EINVAL);
    d->privileged = false;
    destroy(d);
}

static struct vcpu *running;

static void leaves_its_cpu(void)
{
    running->sched.on_cpu = false;
}

static void destruction_waits_for_vcpus(void **state)
{
    struct domain *d = make(7, 2);
    running = d->vcpu[1];
    running->sched.on_cpu = true;
    rooms.during_preempt = leaves_its_cpu;
    destroy(d);
    assert_int_equal(rooms.relinquished, 1);
}

static void pauses_count(void **state)
{
    struct domain *d = make(7, 1);
    struct vcpu *v = d->vcpu[0];
    assert_int_equal(v->pause_count, 1); /* as created */
    assert_true(v->sched.blockers & SCHED_PAUSED);
    domain_pause(d);
    assert_int_equal(vcpu_create(d, 1, 0), 0); /* inherits both */
    assert_int_equal(d->vcpu[1]->pause_count, 2);
    domain_unpause(d);
    assert_true(v->sched.blockers & SCHED_PAUSED);
    assert_int_equal(domain_pause_by_controller(d), 0);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    assert_true(v->sched.blockers & SCHED_PAUSED);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    assert_false(v->sched.blockers & SCHED_PAUSED);
    assert_false(d->vcpu[1]->sched.blockers & SCHED_PAUSED);
    assert_int_equal(domain_unpause_by_controller(d), -XEN_EINVAL);
    vcpu_pause(v);
    vcpu_pause(v);
    vcpu_unpause(v);
    assert_true(v->sched.blockers & SCHED_PAUSED);
    vcpu_unpause(v);
    assert_false(v->sched.blockers & SCHED_PAUSED);
    for (unsigned i = 0; i < 255; i++)
        assert_int_equal(domain_pause_by_controller(d), 0);
    assert_int_equal(domain_pause_by_controller(d), -XEN_EOVERFLOW);
    destroy(d);
}

static void shutdown_codes(void **state)
{
    struct domain *d = make(7, 2);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    assert_int_equal(domain_resume(d), -XEN_EINVAL);
    domain_shutdown(d, SHUTDOWN_suspend);
    assert_true(d->shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_suspend);
    assert_true(d->vcpu[0]->sched.blockers & d->vcpu[1]->sched.blockers & SCHED_PAUSED);
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 1);
    domain_shutdown(d, SHUTDOWN_crash); /* it is down already */
    assert_int_equal(d->shutdown_code, SHUTDOWN_suspend);
    assert_int_equal(rooms.virq[VIRQ_DOM_EXC], 1);

    assert_int_equal(domain_resume(d), 0);
    assert_false(d->shut_down || d->vcpu[0]->sched.blockers & SCHED_PAUSED);
    struct sched_shutdown s = {.reason = SHUTDOWN_reboot};
    fake_cpu[0].current = d->vcpu[0];
    assert_int_equal(hc_sched_op(SCHEDOP_shutdown_code, (uint64_t)&s), 0);
    s.reason = SHUTDOWN_MAX + 1;
    assert_int_equal(hc_sched_op(SCHEDOP_shutdown_code, (uint64_t)&s), -XEN_EINVAL);
    assert_int_equal(hc_sched_op(SCHEDOP_shutdown, (uint64_t)&s), -XEN_EINVAL);
    s.reason = SHUTDOWN_poweroff;
    assert_int_equal(hc_sched_op(SCHEDOP_shutdown, (uint64_t)&s), 0);
    assert_int_equal(d->shutdown_code, SHUTDOWN_reboot); /* latched before */
    fake_cpu[0].current = fake_cpu[0].idle;
    destroy(d);
}

static void shut_down_tells_when_all_are_quiet(void **state)
{
    struct domain *d = make(7, 2);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    fake_cpu[0].current = d->vcpu[0];
    running = d->vcpu[1];
    running->sched.on_cpu = true;
    d->vcpu[0]->sched.on_cpu = true; /* the caller: it stops at its exit */
    rooms.during_preempt = leaves_its_cpu;
    domain_shutdown(d, SHUTDOWN_poweroff);
    assert_false(running->sched.on_cpu);
    assert_true(d->shut_down);
    d->vcpu[0]->sched.on_cpu = false;
    fake_cpu[0].current = fake_cpu[0].idle;
    destroy(d);
}

static uint8_t ending;

static void end_machine(void *arg)
{
    domain_shutdown(arg, ending);
}

static void domain_0_ends_the_machine(void **state)
{
    static const struct {
        int code;
        bool noreboot;
        int how;
    } cases[] = {
        {SHUTDOWN_poweroff, false, MACHINE_HALTED},  {SHUTDOWN_reboot, true, MACHINE_REBOOTED},
        {SHUTDOWN_crash, false, MACHINE_REBOOTED},   {SHUTDOWN_crash, true, MACHINE_HALTED},
        {SHUTDOWN_watchdog, true, MACHINE_REBOOTED},
    };
    struct domain *d = make(0, 1);
    d->privileged = true;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        ending = cases[i].code;
        boot_options.noreboot = cases[i].noreboot;
        assert_int_equal(fake_machine_end(end_machine, d), cases[i].how);
    }
    fake_cpu[0].current = d->vcpu[0];
    struct sched_shutdown s = {.reason = SHUTDOWN_suspend};
    assert_int_equal(hc_sched_op(SCHEDOP_shutdown, (uint64_t)&s), -XEN_EINVAL);
    fake_cpu[0].current = fake_cpu[0].idle;
    d->privileged = false;
    destroy(d);
}

static void killed_at_its_exit(void **state)
{
    struct domain *d = make(7, 2);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    fake_cpu[0].current = d->vcpu[0];
    d->vcpu[0]->sched.blockers = 0;
    domain_kill(d, "test %u", 1);
    domain_kill(d, "test %u", 2);
    assert_true(d->kill_pending);
    assert_false(d->shut_down); /* locks may be held here */
    assert_true(d->vcpu[0]->work & VCPU_WORK_END);
    assert_false(d->vcpu[1]->work);
    fake_cpu[0].current = fake_cpu[0].idle;
    destroy(d);
}

static void killed_by_others(void **state)
{
    struct domain *d = make(7, 2);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    d->vcpu[0]->sched.blockers = SCHED_BLOCKED;
    d->vcpu[1]->sched.blockers = SCHED_POLLING;
    domain_kill(d, "by somebody else");
    assert_int_equal(d->vcpu[0]->sched.blockers | d->vcpu[1]->sched.blockers, 0);
    assert_int_equal(rooms.pokes, 2);
    assert_true(d->vcpu[1]->work & VCPU_WORK_END);
    destroy(d);
}

static void watchdogs(void **state)
{
    struct domain *d = make(7, 1);
    struct sched_watchdog w = {.id = 0, .timeout = 0};
    assert_int_equal(domain_unpause_by_controller(d), 0);
    fake_cpu[0].current = d->vcpu[0];
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), -XEN_EINVAL);
    w.timeout = 10;
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), 1);
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), 2);
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), -XEN_ENOSPC);
    w = (struct sched_watchdog){.id = 1, .timeout = 0};
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), 0);
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), -XEN_EINVAL);
    fake_time_advance(SECONDS(8));
    w = (struct sched_watchdog){.id = 2, .timeout = 10};
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), 0); /* fed in time */
    fake_time_advance(SECONDS(9));
    assert_false(d->kill_pending);
    fake_time_advance(SECONDS(2));
    assert_true(d->kill_pending);
    assert_int_equal(d->end_code, SHUTDOWN_watchdog);
    w.id = 3;
    assert_int_equal(hc_sched_op(SCHEDOP_watchdog, (uint64_t)&w), -XEN_EINVAL);
    fake_cpu[0].current = fake_cpu[0].idle;
    destroy(d);
}

static void info_page_moves_once(void **state)
{
    struct domain *d = make(7, 2);
    struct vcpu *v = d->vcpu[0];
    struct page *page = page_alloc(0, ALLOC_ZERO);
    assert_int_equal(page_assign(d, page, 0), 0);
    uint64_t frame = page_to_mfn(page).n;
    v->info->evtchn_pending_sel = 4;
    v->info->evtchn_upcall_mask = 1;

    assert_int_equal(vcpu_info_register(v, frame, PAGE_SIZE - 8), -XEN_EINVAL);
    assert_int_equal(vcpu_info_register(v, frame, 4), -XEN_EINVAL);
    assert_int_equal(vcpu_info_register(v, frame + 1, 0), -XEN_EINVAL);
    v->sched.blockers = 0;
    assert_int_equal(vcpu_info_register(v, frame, 128), -XEN_EINVAL); /* another's, running */
    fake_cpu[0].current = v;
    assert_int_equal(vcpu_info_register(v, frame, 128), 0);
    assert_ptr_equal(v->info, (uint8_t *)page_to_virt(page) + 128);
    assert_int_equal(v->info->evtchn_upcall_mask, 1);
    assert_int_equal(v->info->evtchn_upcall_pending, 1); /* look at everything */
    assert_int_equal(v->info->evtchn_pending_sel, ~0UL);
    assert_int_equal(vcpu_info_register(v, frame, 256), -XEN_EINVAL);
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 1);
    fake_cpu[0].current = fake_cpu[0].idle;
    v->sched.blockers = SCHED_DOWN;
    destroy(d);
    assert_int_equal(page->type & PAGE_TYPE_COUNT, 0);
    assert_true(page_drop_allocation(page));
    page_put(page);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(creation_is_all_or_nothing),
        TEST(creation_refuses),
        TEST(finding_in_order),
        TEST(references_keep_it),
        TEST(shown_pages_keep_it),
        TEST(some_cannot_be_destroyed),
        TEST(destruction_waits_for_vcpus),
        TEST(pauses_count),
        TEST(shutdown_codes),
        TEST(shut_down_tells_when_all_are_quiet),
        TEST(domain_0_ends_the_machine),
        TEST(killed_at_its_exit),
        TEST(killed_by_others),
        TEST(watchdogs),
        TEST(info_page_moves_once),
    };
    fake_ram_reset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
