/*
 * The scheduler on a big machine: 256 CPUs and 10,000 vCPUs (or as many as the arguments say),
 * under the real policy of sched/. Prints how fairly CPU time was shared and how long who woke had
 * to wait, and fails when a figure is out of bounds.
 *
 *   build/sim/sched [CPUs [vCPUs [seconds]]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/machine.h"

static unsigned failures;

static void check(const char *what, double value, double most, const char *unit)
{
    bool ok = value <= most;
    printf("  %-46s %10.3f %-3s (at most %.3f)%s\n", what, value, unit, most, ok ? "" : "  FAIL");
    failures += !ok;
}

static double wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sim_vcpu **make(unsigned n)
{
    struct sim_vcpu **v = calloc(n, sizeof(*v));
    if (!v)
        exit(2);
    return v;
}

static void cost(double began)
{
    printf("  %lu choices in %.1f s of our time: %.0f ns each\n", sim_steps, wall() - began,
           (wall() - began) / (double)sim_steps * 1e9);
}

/*
 * CPU time that one of weight 1 gets: what is wanted beyond a whole CPU by heavy ones, which they
 * cannot use, is shared by the others.
 */
static double fair_level(struct sim_vcpu *const *v, unsigned n, unsigned cpus)
{
    double level = 0, before = -1;
    while (level > before) {
        double whole = 0, sum = 0;
        for (unsigned i = 0; i < n; i++) {
            if (v[i]->e.weight * level >= 1)
                whole++;
            else
                sum += v[i]->e.weight;
        }
        before = level;
        level = sum > 0 ? (cpus - whole) / sum : level;
    }
    return level;
}

/* All of them compute without end; weights of 128 to 640. */
static void hogs(unsigned cpus, unsigned n, unsigned seconds)
{
    struct sim_vcpu **v = make(n);
    double worst = 0, squares = 0, began = wall();
    printf("%u CPUs, %u vCPUs that compute, weights 128 to 640, %u s:\n", cpus, n, seconds);
    sim_begin(cpus);
    for (unsigned i = 0; i < n; i++) {
        v[i] = sim_vcpu(128 + sim_random() % 512, NULL, MILLISECONDS(1), 0);
        sim_start(v[i]);
    }
    sim_run(SECONDS(1)); /* it finds its balance */
    ns_t *before = calloc(n, sizeof(*before));
    for (unsigned i = 0; i < n; i++)
        before[i] = sim_ran(v[i]);
    sim_run(SECONDS(seconds));
    double level = fair_level(v, n, cpus);
    for (unsigned i = 0; i < n; i++) {
        double want = seconds * fmin(1, v[i]->e.weight * level);
        double off = fabs((double)(sim_ran(v[i]) - before[i]) / 1e9 - want) / want * 100;
        worst = off > worst ? off : worst;
        squares += off * off;
    }
    ns_t wait = 0;
    for (unsigned i = 0; i < n; i++)
        wait = v[i]->wait_most > wait ? v[i]->wait_most : wait;
    /* a slice of a light one is a large part of what it gets in all */
    double share = (double)seconds * cpus / n;
    check("share: root mean square off", sqrt(squares / n), 2 + 0.1 / share, "%");
    check("share: the worst", worst, 5.5 + 0.3 / share, "%");
    check("longest wait", (double)wait / 1e6, 10.0 * 10 * (1 + n / cpus), "ms");
    check("idle", (double)sim_idle_total() / 1e9 / cpus / (seconds + 1) * 100, 0.1, "%");
    cost(began);
    free(before);
    free(v);
    sim_end();
}

/* A few compute; most wake, work a little and sleep: how a real machine looks. */
static void mixed(unsigned cpus, unsigned n, unsigned seconds, double load, double mean_us,
                  double longest_ms)
{
    struct sim_vcpu **v = make(n);
    double began = wall(), latency = 0, wakes = 0;
    ns_t most = 0;
    unsigned hog_count = cpus / 2;
    printf("%u CPUs, %u vCPUs, %u of them computing, the others wanting %.0f %% of the machine:\n",
           cpus, n, hog_count, load * 100);
    sim_begin(cpus);
    for (unsigned i = 0; i < n; i++) {
        double part = load * cpus / (n - hog_count);
        ns_t burst = MICROSECONDS(50 + sim_random() % 400);
        ns_t sleep = (ns_t)((double)burst * (1 - part) / part);
        v[i] = i < hog_count ? sim_vcpu(256, NULL, MILLISECONDS(1), 0)
                             : sim_vcpu(256, NULL, burst, sleep);
        v[i]->jitter = true;
        sim_start(v[i]);
    }
    sim_run(SECONDS(seconds));
    for (unsigned i = hog_count; i < n; i++) {
        latency += (double)v[i]->latency_sum;
        wakes += (double)v[i]->wakes;
        most = v[i]->latency_most > most ? v[i]->latency_most : most;
    }
    check("wake to run: mean", latency / wakes / 1e3, mean_us, "us");
    check("wake to run: longest", (double)most / 1e6, longest_ms, "ms");
    double idle = (double)sim_idle_total() / 1e9 / cpus / seconds;
    double spare = 1 - load - 0.5 > 0 ? 1 - load - 0.5 : 0;
    check("idle beyond what is spare", (idle - spare) * 100, 3, "%");
    cost(began);
    free(v);
    sim_end();
}

/* One waker among more and more sleepers: they must not cost anything. */
static void sleepers(unsigned cpus, unsigned n)
{
    double each[2] = {HUGE_VAL, HUGE_VAL};
    for (unsigned round = 0; round < 10; round++) { /* the best of five, for the host is busy */
        bool crowd = round & 1;
        sim_begin(cpus);
        for (unsigned i = 0; crowd && i < n; i++)
            sim_vcpu(256, NULL, MILLISECONDS(1), 0); /* never woken */
        for (unsigned i = 0; i < cpus / 2; i++)
            sim_start(sim_vcpu(256, NULL, MICROSECONDS(20), MICROSECONDS(80)));
        double began = wall();
        sim_run(MILLISECONDS(500));
        each[crowd] = fmin(each[crowd], (wall() - began) / (double)sim_steps * 1e9);
        sim_end();
    }
    printf("%u CPUs, half of them busy with short work, and %u idle vCPUs or none:\n", cpus, n);
    check("cost of a choice with them, by that without", each[1] / each[0], 1.5, "");
}

int main(int argc, char **argv)
{
    unsigned cpus = argc > 1 ? (unsigned)atoi(argv[1]) : 256;
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 10000;
    unsigned seconds = argc > 3 ? (unsigned)atoi(argv[3]) : 10;
    if (cpus < 2 || cpus > MAX_CPUS || n < cpus || !seconds) {
        fprintf(stderr, "usage: sched [CPUs, 2 to %u [vCPUs, at least as many [seconds]]]\n",
                MAX_CPUS);
        return 2;
    }
    hogs(cpus, n, seconds);
    hogs(cpus, cpus + cpus / 4, seconds);
    mixed(cpus, n, seconds, 0.3, 50, 40);
    mixed(cpus, n, seconds, 0.7, 1000, 100); /* more than there is */
    sleepers(cpus, n);
    printf("Test result: %s\n", failures ? "failed" : "passed");
    return failures != 0;
}
