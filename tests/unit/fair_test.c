/* SOURCES: sched/fair.c sched/affinity.c sched/cap.c lib/rbtree.c lib/bitmap.c */
/* SOURCES: lib/spinlock.c fake/cpu.c sim/machine.c */
/* LIBS: -fsanitize-coverage=trace-pc */
/* The scheduling policy on simulated machines: shares, caps, affinity, latency, no starvation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "sim/machine.h"
#include "sim/mixes.h"

#define HOG            MILLISECONDS(1), 0
#define BUSY_IDLE_MOST MILLISECONDS(2) /* of a CPU, in a whole run in which it has enough to do */

/* @got is @want but for @percent. */
static void check_near(const char *what, double got, double want, double percent)
{
    double off = (got - want) / want * 100;
    if (off > percent || off < -percent)
        fail_msg("%s: %.4f instead of %.4f, %.2f %% off", what, got, want, off);
}

static double seconds(ns_t ns)
{
    return (double)ns / 1e9;
}

static struct sim_vcpu *hog(uint32_t weight, struct sched_group *g)
{
    struct sim_vcpu *v = sim_vcpu(weight, g, HOG);
    sim_start(v);
    return v;
}

static struct cpu_mask mask_of(uint64_t bits)
{
    return (struct cpu_mask){{bits}};
}

static void weights_on_one_cpu(void **state)
{
    static const uint32_t weight[] = {256, 512, 1024, 100};
    struct sim_vcpu *v[4];
    sim_begin(1);
    for (unsigned i = 0; i < 4; i++)
        v[i] = hog(weight[i], NULL);
    sim_run(SECONDS(20));
    for (unsigned i = 0; i < 4; i++)
        check_near("share", seconds(sim_ran(v[i])), 20.0 * weight[i] / (256 + 512 + 1024 + 100), 2);
    assert_true(sim_idle_total() < BUSY_IDLE_MOST);
    sim_end();
}

static void three_on_two_cpus(void **state)
{
    struct sim_vcpu *v[3];
    sim_begin(2);
    for (unsigned i = 0; i < 3; i++)
        v[i] = hog(256, NULL);
    sim_run(SECONDS(20));
    for (unsigned i = 0; i < 3; i++)
        check_near("share", seconds(sim_ran(v[i])), 40.0 / 3, 2);
    assert_true(sim_idle_total() < 2 * BUSY_IDLE_MOST);
    sim_end();
}

static void weights_over_many_cpus(void **state)
{
    enum { CPUS = 8, N = 60 };
    struct sim_vcpu *v[N];
    double sum = 0;
    sim_begin(CPUS);
    for (unsigned i = 0; i < N; i++) {
        v[i] = hog(128 + sim_random() % 512, NULL);
        sum += v[i]->e.weight;
    }
    sim_run(SECONDS(60));
    for (unsigned i = 0; i < N; i++)
        check_near("share", seconds(sim_ran(v[i])), 60.0 * CPUS * v[i]->e.weight / sum, 2);
    assert_true(sim_idle_total() < CPUS * BUSY_IDLE_MOST);
    sim_end();
}

/* One that deserves more than a CPU gets a whole one, and the others share the rest. */
static void weight_beyond_one_cpu(void **state)
{
    sim_begin(2);
    struct sim_vcpu *heavy = hog(10000, NULL), *a = hog(256, NULL), *b = hog(256, NULL);
    sim_run(SECONDS(20));
    check_near("heavy", seconds(sim_ran(heavy)), 20, 2);
    check_near("light", seconds(sim_ran(a)), 10, 2);
    check_near("light", seconds(sim_ran(b)), 10, 2);
    sim_end();
}

static void weight_changes(void **state)
{
    sim_begin(1);
    struct sim_vcpu *a = hog(256, NULL), *b = hog(256, NULL);
    sim_run(SECONDS(10));
    check_near("before", seconds(sim_ran(a)), 5, 2);
    ns_t before = sim_ran(a);
    fair_set_params(&a->e, 768, 0);
    sim_run(SECONDS(10));
    check_near("after", seconds(sim_ran(a) - before), 7.5, 2);
    check_near("the other", seconds(sim_ran(b)), 7.5, 2);
    sim_end();
}

static void nobody_starves(void **state)
{
    sim_begin(1);
    struct sim_vcpu *light = hog(64, NULL);
    for (unsigned i = 0; i < 20; i++)
        hog(1024, NULL);
    for (unsigned i = 0; i < 10; i++) {
        struct sim_vcpu *v = sim_vcpu(1024, NULL, MICROSECONDS(300), MILLISECONDS(3));
        v->jitter = true;
        sim_start(v);
    }
    sim_run(SECONDS(30));
    assert_true(sim_ran(light) > 0);
    /* its whole slice must be paid for by the others: about 20 * 1024 / 64 of it */
    assert_true(light->wait_most < SECONDS(5));
    sim_end();
}

static void cap_alone(void **state)
{
    struct sched_group g = {0};
    sim_begin(2);
    struct sim_vcpu *v = sim_vcpu(256, &g, HOG);
    fair_set_params(&v->e, 256, 25);
    sim_start(v);
    sim_run(SECONDS(20));
    check_near("capped", seconds(sim_ran(v)), 5, 2);
    sim_end();
}

static void cap_of_a_domain(void **state)
{
    struct sched_group g = {0};
    struct sim_vcpu *v[4];
    ns_t sum = 0;
    sim_begin(4);
    for (unsigned i = 0; i < 4; i++) {
        v[i] = sim_vcpu(256, &g, HOG);
        fair_set_params(&v[i]->e, 256, 150);
        sim_start(v[i]);
    }
    struct sim_vcpu *other = hog(256, NULL);
    sim_run(SECONDS(20));
    for (unsigned i = 0; i < 4; i++)
        sum += sim_ran(v[i]);
    check_near("capped domain", seconds(sum), 30, 2);
    assert_true(sim_ran(other) > SECONDS(19));
    sim_end();
}

static void cap_under_load_and_lifted(void **state)
{
    struct sched_group g = {0};
    sim_begin(1);
    struct sim_vcpu *v = sim_vcpu(256, &g, HOG), *o = hog(256, NULL);
    fair_set_params(&v->e, 256, 10);
    sim_start(v);
    sim_run(SECONDS(20));
    check_near("capped", seconds(sim_ran(v)), 2, 2);
    check_near("the other", seconds(sim_ran(o)), 18, 2);
    ns_t before = sim_ran(v);
    fair_set_params(&v->e, 256, 0);
    sim_run(SECONDS(10));
    check_near("lifted", seconds(sim_ran(v) - before), 5, 2);
    sim_end();
}

static void hard_affinity(void **state)
{
    struct cpu_mask all, second = mask_of(2), last = mask_of(4), none = mask_of(1UL << 40);
    memset(&all, 0xff, sizeof(all));
    sim_begin(3);
    struct sim_vcpu *v = hog(256, NULL);
    for (unsigned i = 0; i < 6; i++)
        hog(256, NULL);
    assert_int_equal(fair_set_affinity(&v->e, &none, &all), -XEN_EINVAL);
    assert_int_equal(fair_set_affinity(&v->e, &second, &all), 0);
    sim_run(MILLISECONDS(20));
    memset(v->cpus_seen, 0, sizeof(v->cpus_seen));
    sim_run(SECONDS(2));
    assert_false(sim_saw_cpu(v, 0));
    assert_true(sim_saw_cpu(v, 1));
    assert_false(sim_saw_cpu(v, 2));
    assert_int_equal(fair_set_affinity(&v->e, &last, &all), 0);
    sim_run(MILLISECONDS(20));
    memset(v->cpus_seen, 0, sizeof(v->cpus_seen));
    sim_run(SECONDS(2));
    assert_false(sim_saw_cpu(v, 1));
    assert_true(sim_saw_cpu(v, 2));
    sim_end();
}

/* All pinned to CPU 0 of four: they share it, and the others stay idle. */
static void pinned_together(void **state)
{
    struct cpu_mask all, first = mask_of(1);
    struct sim_vcpu *v[10];
    memset(&all, 0xff, sizeof(all));
    sim_begin(4);
    for (unsigned i = 0; i < 10; i++) {
        v[i] = sim_vcpu(256, NULL, HOG);
        assert_int_equal(fair_set_affinity(&v[i]->e, &first, &all), 0);
        sim_start(v[i]);
    }
    struct sim_vcpu *free_one = hog(256, NULL);
    sim_run(SECONDS(20));
    for (unsigned i = 0; i < 10; i++)
        check_near("pinned", seconds(sim_ran(v[i])), 2, 2);
    assert_true(sim_ran(free_one) > SECONDS(20) - MILLISECONDS(30));
    sim_end();
}

static void soft_affinity(void **state)
{
    struct cpu_mask all, third = mask_of(4);
    memset(&all, 0xff, sizeof(all));
    sim_begin(4);
    struct sim_vcpu *v = sim_vcpu(256, NULL, MICROSECONDS(100), MILLISECONDS(5));
    assert_int_equal(fair_set_affinity(&v->e, &all, &third), 0);
    sim_start(v);
    sim_run(SECONDS(2));
    memset(v->cpus_seen, 0, sizeof(v->cpus_seen));
    sim_run(SECONDS(2));
    /* it is where it was first put, as its state stays in an idle CPU, unless that is wanted */
    ns_t ran = sim_ran(v);
    assert_true(ran > MILLISECONDS(50));
    for (unsigned i = 0; i < 6; i++)
        hog(256, NULL);
    sim_run(SECONDS(1));
    memset(v->cpus_seen, 0, sizeof(v->cpus_seen));
    sim_run(SECONDS(1));
    assert_true(sim_saw_cpu(v, 2)); /* all busy: it goes where it likes to be */
    sim_end();
}

static void work_is_conserved(void **state)
{
    sim_begin(4);
    for (unsigned i = 0; i < 5; i++)
        hog(256, NULL);
    for (unsigned i = 0; i < 20; i++) {
        struct sim_vcpu *v = sim_vcpu(256, NULL, MICROSECONDS(500), MILLISECONDS(7));
        v->jitter = true;
        sim_start(v);
    }
    sim_run(SECONDS(10));
    assert_true(sim_idle_total() < MILLISECONDS(100)); /* of 40 s: a quarter of a percent */
    sim_end();
}

/* Who wakes seldom runs at once although the CPUs are full. */
static void sleepers_are_served(void **state)
{
    sim_begin(2);
    for (unsigned i = 0; i < 8; i++)
        hog(256, NULL);
    struct sim_vcpu *v = sim_vcpu(256, NULL, MICROSECONDS(200), MILLISECONDS(20));
    v->jitter = true;
    sim_start(v);
    sim_run(SECONDS(20));
    assert_true(v->wakes > 500);
    assert_true(v->latency_sum / v->wakes < MICROSECONDS(300));
    assert_true(v->latency_most < MILLISECONDS(20));
    sim_end();
}

static struct sim_vcpu *sleeper_among_hogs(ns_t ratelimit)
{
    sim_begin(1);
    fair_ratelimit = ratelimit;
    hog(256, NULL);
    hog(256, NULL);
    struct sim_vcpu *v = sim_vcpu(256, NULL, MICROSECONDS(200), MILLISECONDS(23));
    v->jitter = true;
    sim_start(v);
    sim_run(SECONDS(20));
    assert_true(v->wakes > 500);
    return v;
}

/* The rate limit: wakers wait for it, but no longer than for it. */
static void ratelimit(void **state)
{
    const struct sim_vcpu *v = sleeper_among_hogs(0);
    assert_true(v->latency_sum / v->wakes < MICROSECONDS(300));
    sim_end();
    v = sleeper_among_hogs(MILLISECONDS(5));
    assert_in_range(v->latency_sum / v->wakes, MICROSECONDS(500), MILLISECONDS(4));
    assert_true(v->latency_most < MILLISECONDS(16)); /* both hogs, and what is left of a slice */
    sim_end();
    fair_ratelimit = 0;
}

/* Sleeping saves up no more than a bounded credit. */
static void sleep_is_not_saved_up(void **state)
{
    sim_begin(1);
    struct sim_vcpu *a = hog(256, NULL), *b = sim_vcpu(256, NULL, HOG);
    sim_run(SECONDS(10));
    sim_start(b);
    ns_t before = sim_ran(a);
    sim_run(MILLISECONDS(200));
    assert_true(sim_ran(a) - before > MILLISECONDS(85));
    sim_end();
}

/* Who works most of the time and sleeps a little gets its share, too, neither more nor less. */
static void short_sleeps_cost_nothing(void **state)
{
    sim_begin(1);
    struct sim_vcpu *a = hog(256, NULL),
                    *b = sim_vcpu(256, NULL, MICROSECONDS(900), MICROSECONDS(100));
    sim_start(b);
    sim_run(SECONDS(10));
    assert_true(sim_ran(b) > sim_ran(a) * 97 / 100 && sim_ran(b) < sim_ran(a) * 102 / 100);
    sim_end();
}

/* Within one second: weights one to eight, and a cap that holds beside them. */
static void a_second_is_enough(void **state)
{
    struct sched_group g = {0};
    struct sim_vcpu *v[4], *capped;
    sim_begin(2);
    for (unsigned i = 0; i < 4; i++)
        v[i] = hog(128 << i, NULL);
    capped = sim_vcpu(4096, &g, HOG);
    fair_set_params(&capped->e, 4096, 50);
    sim_start(capped);
    sim_run(SECONDS(1));
    for (unsigned round = 0; round < 20; round++) {
        ns_t before[4], capped_before = sim_ran(capped);
        for (unsigned i = 0; i < 4; i++)
            before[i] = sim_ran(v[i]);
        sim_run(SECONDS(1));
        check_near("capped", seconds(sim_ran(capped) - capped_before), 0.5, 2);
        /* 1.5 CPUs are left, of which the heaviest can use one: 8/15 of it are less */
        for (unsigned i = 0; i < 4; i++) {
            double want = 1.5 * (1 << i) / 15, got = seconds(sim_ran(v[i]) - before[i]);
            assert_true(got > want - 0.02 && got < want + 0.02); /* two slices of a second */
        }
    }
    sim_end();
}

/* Alone for a minute, then joined: the time alone counts for nothing. */
static void long_alone(void **state)
{
    struct sim_vcpu *v[5];
    sim_begin(4);
    for (unsigned i = 0; i < 3; i++)
        v[i] = hog(256, NULL);
    sim_run(SECONDS(61));
    ns_t before[5] = {0};
    for (unsigned i = 0; i < 3; i++)
        before[i] = sim_ran(v[i]);
    v[3] = hog(256, NULL);
    v[4] = hog(256, NULL);
    sim_run(SECONDS(20));
    for (unsigned i = 0; i < 5; i++)
        check_near("share", seconds(sim_ran(v[i]) - before[i]), 16, 2);
    sim_end();
}

/* Who sleeps just before his slice ends, or just after he woke, gets no more than his share. */
static void thieves(void **state)
{
    static const ns_t way[][2] = {
        {MICROSECONDS(9900), MICROSECONDS(10)}, {MICROSECONDS(9900), MICROSECONDS(500)},
        {MICROSECONDS(1900), MICROSECONDS(20)}, {MICROSECONDS(990), MICROSECONDS(10)},
        {MICROSECONDS(4000), MICROSECONDS(50)}, {MICROSECONDS(100), MICROSECONDS(1)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(way); i++) {
        sim_begin(1);
        struct sim_vcpu *honest = hog(256, NULL),
                        *thief = sim_vcpu(256, NULL, way[i][0], way[i][1]);
        sim_start(thief);
        sim_run(SECONDS(10));
        if (sim_ran(honest) < MILLISECONDS(4950))
            fail_msg("way %u steals: the other has %.3f s of 5", i, seconds(sim_ran(honest)));
        sim_end();
    }
}

/* A stream of short work that needs 40 % keeps what it needs beside one that computes. */
static void streams_keep_their_need(void **state)
{
    for (unsigned hogs = 1; hogs <= 2; hogs++) {
        sim_begin(1);
        for (unsigned i = 0; i < hogs; i++)
            hog(256, NULL);
        double part = hogs == 1 ? 0.4 : 0.3;
        ns_t burst = MICROSECONDS(100);
        struct sim_vcpu *v = sim_vcpu(256, NULL, burst, (ns_t)((double)burst * (1 / part - 1)));
        v->jitter = true;
        sim_start(v);
        sim_run(SECONDS(10));
        check_near("stream", seconds(sim_ran(v)), 10 * part, 5);
        sim_end();
    }
}

/* Every millisecond somebody wakes on a CPU that others want whole. */
static void wakes_among_hogs(void **state)
{
    for (unsigned hogs = 0; hogs <= 7; hogs = hogs * 2 + 1) {
        sim_begin(1);
        for (unsigned i = 0; i < hogs; i++)
            hog(256, NULL);
        sim_start(sim_vcpu(256, NULL, MICROSECONDS(20), MICROSECONDS(980)));
        sim_run(SECONDS(1));
        sim_forget_latencies();
        sim_run(SECONDS(10));
        assert_true(sim_latency(0.99) <= MICROSECONDS(5));
        assert_true(sim_latency(1) <= MICROSECONDS(200));
        sim_end();
    }
}

/* The mixes that tests/guests/shares runs on the machine, for as long. */
static void mixes_as_on_the_machine(void **state)
{
    for (unsigned n = 0; n < ARRAY_SIZE(mixes); n++) {
        struct sched_group g[MIX_DOMAINS] = {{0}};
        struct sim_vcpu *v[MIX_DOMAINS] = {0};
        ns_t before[MIX_DOMAINS];
        struct cpu_mask all;
        memset(&all, 0xff, sizeof(all));
        sim_begin(mixes[n].cpus);
        for (unsigned i = 0; i < MIX_DOMAINS && mixes[n].domain[i].weight; i++) {
            const struct mix_domain *m = &mixes[n].domain[i];
            struct cpu_mask hard = mask_of(m->cpus);
            v[i] = sim_vcpu(m->weight, &g[i], HOG);
            fair_set_params(&v[i]->e, m->weight, m->cap);
            assert_int_equal(fair_set_affinity(&v[i]->e, &hard, &all), 0);
            sim_start(v[i]);
        }
        sim_run(MILLISECONDS(200));
        for (unsigned i = 0; i < MIX_DOMAINS && v[i]; i++)
            before[i] = sim_ran(v[i]);
        sim_run(MILLISECONDS(1500));
        for (unsigned i = 0; i < MIX_DOMAINS && v[i]; i++) {
            double want = mixes[n].domain[i].share,
                   got = seconds(sim_ran(v[i]) - before[i]) / 1.5e-4;
            if (got < want - 100 || got > want + 100)
                fail_msg("%s: domain %u has %.0f instead of %.0f", mixes[n].name, i, got, want);
        }
        sim_end();
    }
}

static double cost_of(unsigned runnable, unsigned sleepers)
{
    sim_begin(1);
    for (unsigned i = 0; i < sleepers; i++)
        sim_vcpu(256, NULL, HOG);
    for (unsigned i = 0; i < runnable; i++)
        hog(256, NULL);
    sim_run(SECONDS(1));
    sim_steps = sim_operations = 0;
    sim_run(SECONDS(5));
    double each = (double)sim_operations / (double)sim_steps;
    sim_end();
    return each;
}

/* In branches, not in time: a tree that is ten levels deep, and nothing else that grows. So their
 * number doubling five times more costs no more than the four times before did, or little. */
static void choices_cost_the_same(void **state)
{
    double few = cost_of(2, 0), some = cost_of(32, 0), many = cost_of(1024, 0);
    double idle = cost_of(2, 10000);
    assert_true(few > 0);
    assert_true(many - some < 1.25 * (some - few));
    assert_true(idle == few);
}

static void paused_and_back(void **state)
{
    sim_begin(2);
    struct sim_vcpu *v[4];
    for (unsigned i = 0; i < 4; i++)
        v[i] = hog(256, NULL);
    sim_run(MILLISECONDS(100));
    sim_block(v[0], SCHED_PAUSED);
    sim_block(v[1], SCHED_PAUSED);
    sim_run(MILLISECONDS(1));
    assert_false(v[0]->e.on_cpu || v[0]->e.queued);
    assert_int_equal(v[0]->runstate, RUNSTATE_offline);
    ns_t ran = sim_ran(v[0]) + sim_ran(v[1]);
    sim_run(SECONDS(1));
    assert_int_equal(sim_ran(v[0]) + sim_ran(v[1]), ran);
    sim_unblock(v[0], SCHED_PAUSED);
    sim_run(SECONDS(1));
    assert_true(sim_ran(v[0]) + sim_ran(v[1]) > ran + MILLISECONDS(500));
    sim_end();
}

/* An idle CPU keeps a sleeper's state, but not that of one that is paused meanwhile. */
static void state_leaves_idle_cpu_when_paused(void **state)
{
    sim_begin(1);
    struct sim_vcpu *v = sim_vcpu(256, NULL, MICROSECONDS(100), SECONDS(5));
    sim_start(v);
    sim_run(SECONDS(1));
    assert_int_equal(v->runstate, RUNSTATE_blocked);
    assert_true(v->e.on_cpu);
    sim_block(v, SCHED_PAUSED);
    sim_run(MILLISECONDS(1));
    assert_false(v->e.on_cpu);
    sim_end();
}

/* Inside the hypervisor it goes on although it is paused, until it is at the boundary. */
static void in_hypervisor_goes_on(void **state)
{
    sim_begin(1);
    struct sim_vcpu *v = hog(256, NULL);
    hog(256, NULL);
    sim_run(MILLISECONDS(50));
    v->e.in_hypervisor = true;
    sim_block(v, SCHED_PAUSED);
    ns_t before = sim_ran(v);
    sim_run(SECONDS(1));
    check_near("share", seconds(sim_ran(v) - before), 0.5, 5);
    v->e.in_hypervisor = false;
    sim_block(v, SCHED_PAUSED);
    sim_run(MILLISECONDS(1));
    assert_false(v->e.on_cpu || v->e.queued);
    sim_end();
}

/* Everything at once, for the invariants that the debug build and the sanitizers check. */
static void random_storm(void **state)
{
    enum { N = 80 };
    struct sched_group g[4] = {{0}};
    struct sim_vcpu *v[N];
    sim_begin(6);
    for (unsigned i = 0; i < N; i++) {
        bool hogs = sim_random() % 4 == 0;
        v[i] = sim_vcpu(1 + sim_random() % 1024, &g[i % 4], MICROSECONDS(50 + sim_random() % 3000),
                        hogs ? 0 : MICROSECONDS(100 + sim_random() % 9000));
        v[i]->jitter = true;
        sim_start(v[i]);
    }
    for (unsigned round = 0; round < 4000; round++) {
        struct sim_vcpu *w = v[sim_random() % N];
        struct cpu_mask hard = mask_of(1 + sim_random() % 63), soft = mask_of(sim_random() % 64);
        switch (sim_random() % 5) {
        case 0:
            sim_block(w, SCHED_PAUSED);
            break;
        case 1:
            sim_unblock(w, SCHED_PAUSED);
            break;
        case 2:
            assert_int_equal(fair_set_affinity(&w->e, &hard, &soft), 0);
            break;
        case 3:
            fair_set_params(&w->e, 1 + sim_random() % 65535,
                            sim_random() % 3 ? 0 : 1 + sim_random() % 300);
            break;
        default:
            w->e.in_hypervisor = false;
            break;
        }
        sim_run(MICROSECONDS(sim_random() % 2000));
    }
    struct cpu_mask all;
    memset(&all, 0xff, sizeof(all));
    for (unsigned i = 0; i < N; i++) {
        sim_unblock(v[i], SCHED_PAUSED);
        fair_set_params(&v[i]->e, 256, 0);
        assert_int_equal(fair_set_affinity(&v[i]->e, &all, &all), 0);
    }
    sim_run(SECONDS(1));
    ns_t before[N], idle = sim_idle_total();
    for (unsigned i = 0; i < N; i++)
        before[i] = sim_ran(v[i]);
    sim_run(SECONDS(10));
    for (unsigned i = 0; i < N; i++)
        assert_true(sim_ran(v[i]) > before[i]); /* nobody was lost */
    assert_true(sim_idle_total() - idle < MILLISECONDS(600));
    for (unsigned i = 0; i < 6; i++) {
        unsigned n = 0;
        for (struct rb_node *r = rb_first(&sim_cpu[i].q.waiting); r; r = rb_next(r))
            n++;
        assert_int_equal(n, sim_cpu[i].q.waiters);
    }
    sim_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_on_one_cpu),
        cmocka_unit_test(three_on_two_cpus),
        cmocka_unit_test(weights_over_many_cpus),
        cmocka_unit_test(weight_beyond_one_cpu),
        cmocka_unit_test(weight_changes),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(cap_alone),
        cmocka_unit_test(cap_of_a_domain),
        cmocka_unit_test(cap_under_load_and_lifted),
        cmocka_unit_test(hard_affinity),
        cmocka_unit_test(pinned_together),
        cmocka_unit_test(soft_affinity),
        cmocka_unit_test(work_is_conserved),
        cmocka_unit_test(sleepers_are_served),
        cmocka_unit_test(ratelimit),
        cmocka_unit_test(sleep_is_not_saved_up),
        cmocka_unit_test(short_sleeps_cost_nothing),
        cmocka_unit_test(a_second_is_enough),
        cmocka_unit_test(long_alone),
        cmocka_unit_test(thieves),
        cmocka_unit_test(streams_keep_their_need),
        cmocka_unit_test(wakes_among_hogs),
        cmocka_unit_test(mixes_as_on_the_machine),
        cmocka_unit_test(choices_cost_the_same),
        cmocka_unit_test(paused_and_back),
        cmocka_unit_test(state_leaves_idle_cpu_when_paused),
        cmocka_unit_test(in_hypervisor_goes_on),
        cmocka_unit_test(random_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
