/*
 * The scheduler on a big machine: 256 CPUs and 10,000 vCPUs (or as many as the arguments say),
 * under the real policy of sched/. Prints how fairly CPU time was shared and how long who woke had
 * to wait, and fails when a figure is out of bounds. All but our own time is the same at each run
 * with the same arguments.
 *
 *   build/sim/sched [CPUs [vCPUs [seconds [seed]]]]
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

static void cost(double began, unsigned seconds)
{
    double ours = wall() - began;
    printf("  %lu choices, %.0f a second of simulated and %.0f of our time; %.0f branches each\n",
           sim_steps, (double)sim_steps / seconds, (double)sim_steps / ours,
           (double)sim_operations / (double)sim_steps);
    printf("  %lu migrations, %.0f a second\n", sim_migrations, (double)sim_migrations / seconds);
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
    double worst = 0, beyond = 0, squares = 0, began = wall();
    double slice = fmax(0.002, 0.020 / (1 + n / cpus)); /* s: as it is cut, nobody is nearer */
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
        double away = fabs((double)(sim_ran(v[i]) - before[i]) / 1e9 - want);
        double off = away / want * 100;
        worst = fmax(worst, off);
        beyond = fmax(beyond, (away - slice) / want * 100);
        squares += off * off;
    }
    ns_t wait = 0;
    for (unsigned i = 0; i < n; i++)
        wait = v[i]->wait_most > wait ? v[i]->wait_most : wait;
    printf("  %-46s %10.3f %%\n", "share: the worst, off by", worst);
    check("share: the worst beyond one slice", beyond, 2, "%");
    check("share: root mean square off", sqrt(squares / n), 1, "%");
    check("longest wait", (double)wait / 1e6, 100.0 + 10 * n / cpus, "ms");
    check("idle", (double)sim_idle_total() / 1e9 / cpus / (seconds + 1) * 100, 0.1, "%");
    cost(began, seconds + 1);
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
    printf("  %-46s %10.3f us\n", "wake to run: half of them within",
           (double)sim_latency(0.5) / 1e3);
    check("wake to run: 99 % within", (double)sim_latency(0.99) / 1e3, 20 * mean_us, "us");
    check("wake to run: longest", (double)most / 1e6, longest_ms, "ms");
    double idle = (double)sim_idle_total() / 1e9 / cpus / seconds;
    double spare = 1 - load - 0.5 > 0 ? 1 - load - 0.5 : 0;
    check("idle beyond what is spare", (idle - spare) * 100, 3, "%");
    cost(began, seconds);
    free(v);
    sim_end();
}

/*
 * What a choice costs, in branches, on one CPU with @n that compute. Each waits for its turn in a
 * tree, whose depth is the only thing that grows.
 */
static double branches(unsigned n)
{
    sim_begin(1);
    for (unsigned i = 0; i < n; i++)
        sim_start(sim_vcpu(256, NULL, MILLISECONDS(1), 0));
    sim_run(SECONDS(1));
    sim_steps = sim_operations = 0;
    sim_run(SECONDS(10));
    double each = (double)sim_operations / (double)sim_steps;
    sim_end();
    return each;
}

/* One waker among more and more sleepers: they must not cost anything. */
static double branches_among(unsigned cpus, unsigned sleepers)
{
    sim_begin(cpus);
    for (unsigned i = 0; i < cpus / 2; i++)
        sim_start(sim_vcpu(256, NULL, MICROSECONDS(20), MICROSECONDS(80)));
    for (unsigned i = 0; i < sleepers; i++)
        sim_vcpu(256, NULL, MILLISECONDS(1), 0); /* never woken */
    sim_run(MILLISECONDS(500));
    double each = (double)sim_operations / (double)sim_steps;
    sim_end();
    return each;
}

static void costs(unsigned cpus, unsigned n)
{
    static const unsigned runnable[] = {2, 32, 256, 1024};
    double few = branches(2), many = few;
    printf("Branches in a choice on one CPU, with so many runnable:");
    for (unsigned i = 0; i < ARRAY_SIZE(runnable); i++) {
        many = branches(runnable[i]);
        printf(" %u: %.0f", runnable[i], many);
    }
    printf("\n");
    check("1024 by 2", many / few, 2, "");
    double alone = branches_among(cpus, 0), crowd = branches_among(cpus, n);
    printf("%u CPUs, half of them busy with short work, and %u idle vCPUs or none:\n", cpus, n);
    check("branches with them, by those without", crowd / alone, 1.001, "");
}

int main(int argc, char **argv)
{
    unsigned cpus = argc > 1 ? (unsigned)atoi(argv[1]) : 256;
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 10000;
    unsigned seconds = argc > 3 ? (unsigned)atoi(argv[3]) : 10;
    sim_seed = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
    if (cpus < 2 || cpus > MAX_CPUS || n < cpus || !seconds) {
        fprintf(stderr, "usage: sched [CPUs, 2 to %u [vCPUs, at least as many [seconds [seed]]]]\n",
                MAX_CPUS);
        return 2;
    }
    hogs(cpus, n, seconds);
    hogs(cpus, cpus + cpus / 4, seconds);
    mixed(cpus, n, seconds, 0.3, 50, 20);
    mixed(cpus, n, seconds, 0.7, 100, 40); /* more than there is */
    costs(cpus, n);
    printf("Test result: %s\n", failures ? "failed" : "passed");
    return failures != 0;
}
