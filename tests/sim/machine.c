#include "sim/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake/cpu.h"
#include "lib/bitmap.h"
#include "sched/internal.h"

#define IPI_LATENCY MICROSECONDS(1)

enum kind { KICK, TIMER, WAKE, BURST_END };

struct event {
    ns_t at;
    uint64_t order; /* events of one time happen in the order in which they were made */
    enum kind kind;
    unsigned cpu;
    struct sim_vcpu *v;
    uint64_t generation;
};

struct sim_cpu *sim_cpu;
ns_t sim_now;
uint64_t sim_steps, sim_seed;
static unsigned cpu_count;
static struct event *heap;
static size_t heap_size, heap_room;
static uint64_t made, random_state;
uint64_t sim_migrations, sim_operations;
static bool counting;
/* wake-to-run times: a power of two and its eighths each */
#define EIGHTHS 8
static uint64_t histogram[64 * EIGHTHS], wakes_total;
static struct sim_vcpu **vcpus;
static size_t vcpu_count;

uint64_t sim_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/*
 * What a choice costs: the branches it goes through, where sched/ and lib/ are compiled with
 * -fsanitize-coverage=trace-pc (elsewhere it stays 0). The time it takes would depend on the host.
 */
void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void)
{
    sim_operations += counting;
}

/* --- latencies --- */

static void latency_note(ns_t ns)
{
    unsigned power = ns < EIGHTHS ? 0 : 63 - (unsigned)__builtin_clzl(ns);
    histogram[power * EIGHTHS + (power < 3 ? 0 : (ns >> (power - 3)) % EIGHTHS)]++;
    wakes_total++;
}

ns_t sim_latency(double part)
{
    uint64_t wanted = (uint64_t)((double)wakes_total * part), seen = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(histogram); i++) {
        seen += histogram[i];
        if (seen > wanted || (seen == wakes_total && seen)) { /* the upper end of this eighth */
            unsigned power = i / EIGHTHS;
            return power < 3 ? EIGHTHS : (1UL << power) + ((i % EIGHTHS + 1UL) << (power - 3));
        }
    }
    return 0;
}

void sim_forget_latencies(void)
{
    memset(histogram, 0, sizeof(histogram));
    wakes_total = 0;
}

/* --- events: a binary heap --- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct event e)
{
    e.order = made++;
    if (heap_size == heap_room) {
        heap_room = heap_room ? heap_room * 2 : 1024;
        heap = realloc(heap, heap_room * sizeof(*heap));
    }
    size_t i = heap_size++;
    for (; i && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static struct event pop(void)
{
    struct event top = heap[0], last = heap[--heap_size];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap_size)
            break;
        if (child + 1 < heap_size && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* --- what the policy asks for --- */

static ns_t now_op(void)
{
    return sim_now;
}

static void kick_op(unsigned cpu)
{
    struct sim_cpu *c = &sim_cpu[cpu];
    if (c->kicked)
        return;
    c->kicked = true;
    push((struct event){.at = sim_now + IPI_LATENCY, .kind = KICK, .cpu = cpu});
}

static void arm_op(unsigned cpu, ns_t when)
{
    struct sim_cpu *c = &sim_cpu[cpu];
    c->timer = when;
    c->generation++;
    if (when != NS_NEVER)
        push((struct event){.at = when > sim_now ? when : sim_now,
                            .kind = TIMER,
                            .cpu = cpu,
                            .generation = c->generation});
}

static void runstate_op(struct sched_entity *e, int state, ns_t now)
{
    struct sim_vcpu *v = (struct sim_vcpu *)e;
    if (state == RUNSTATE_running && v->runstate != RUNSTATE_running) {
        ns_t waited = now - v->ready_since;
        if (waited > v->wait_most)
            v->wait_most = waited;
    }
    if (state == RUNSTATE_runnable && v->runstate != RUNSTATE_runnable)
        v->ready_since = now;
    v->runstate = state;
}

static const struct fair_ops ops = {
    .now = now_op, .kick = kick_op, .arm = arm_op, .runstate = runstate_op};

/* --- CPUs --- */

static ns_t jitter(const struct sim_vcpu *v, ns_t mean)
{
    return v->jitter && mean ? mean / 2 + sim_random() % mean : mean;
}

static void account(struct sim_vcpu *v)
{
    ns_t ran = sim_now - v->since;
    v->ran += ran;
    v->since = sim_now;
    v->left = v->left > ran ? v->left - ran : 0;
}

static void runs(struct sim_vcpu *v, unsigned cpu)
{
    v->since = sim_now;
    sim_migrations += v->ran_before && v->last_cpu != cpu;
    v->ran_before = true;
    v->last_cpu = cpu;
    v->cpus_seen[cpu / 64] |= 1UL << (cpu % 64);
    if (v->woken) {
        ns_t latency = sim_now - v->woken;
        v->latency_sum += latency;
        v->wakes++;
        latency_note(latency);
        if (latency > v->latency_most)
            v->latency_most = latency;
        v->woken = 0;
    }
    v->generation++;
    if (v->sleep)
        push((struct event){
            .at = sim_now + v->left, .kind = BURST_END, .v = v, .generation = v->generation});
}

/* What schedule() of sched/sched.c does. */
static void cpu_schedule(unsigned cpu)
{
    struct sim_cpu *c = &sim_cpu[cpu];
    struct sim_vcpu *prev = c->running, *left = NULL;
    if (prev)
        account(prev);
    c->kicked = false;
    c->schedules++;
    sim_steps++;
    counting = true;
    struct sim_vcpu *next = (struct sim_vcpu *)fair_schedule(&c->q, false);
    counting = false;
    if (next ? next != c->resident : c->resident && fair_must_leave(&c->resident->e)) {
        left = c->resident;
        c->resident = next;
    }
    if (next != prev) {
        c->switches++;
        if (!prev)
            c->idle += sim_now - c->idle_since;
        if (!next)
            c->idle_since = sim_now;
        if (prev)
            prev->generation++;
        c->running = next;
        if (next)
            runs(next, cpu);
    }
    if (left) {
        left->e.on_cpu = false;
        counting = true;
        fair_settle(&left->e);
        counting = false;
    }
}

void sim_unblock(struct sim_vcpu *v, uint32_t bit)
{
    uint32_t old = v->e.blockers;
    v->e.blockers &= ~bit;
    if (old && !v->e.blockers) {
        v->woken = sim_now;
        counting = true;
        fair_wake(&v->e);
        counting = false;
    }
}

void sim_block(struct sim_vcpu *v, uint32_t bit)
{
    v->e.blockers |= bit;
    fair_sleep(&v->e);
}

static void burst_ended(struct sim_vcpu *v)
{
    unsigned cpu = v->e.cpu;
    account(v);
    v->left = jitter(v, v->burst);
    v->e.blockers |= SCHED_BLOCKED;
    push((struct event){.at = sim_now + jitter(v, v->sleep), .kind = WAKE, .v = v});
    cpu_schedule(cpu);
}

void sim_run(ns_t duration)
{
    ns_t end = sim_now + duration;
    while (heap_size && heap[0].at <= end) {
        struct event e = pop();
        sim_now = e.at;
        switch (e.kind) {
        case KICK:
            if (sim_cpu[e.cpu].kicked)
                cpu_schedule(e.cpu);
            break;
        case TIMER:
            if (sim_cpu[e.cpu].generation == e.generation)
                cpu_schedule(e.cpu);
            break;
        case WAKE:
            sim_unblock(e.v, SCHED_BLOCKED);
            break;
        case BURST_END:
            if (e.v->generation == e.generation)
                burst_ended(e.v);
            break;
        }
    }
    sim_now = end;
}

/* --- set-up --- */

void sim_begin(unsigned cpus)
{
    fair_ops = &ops;
    cpu_count = cpus;
    sim_now = SECONDS(1);
    sim_steps = made = sim_migrations = sim_operations = 0;
    random_state = 88172645463325252UL ^ sim_seed * 0x9e3779b97f4a7c15UL;
    sim_forget_latencies();
    sim_cpu = calloc(cpus, sizeof(*sim_cpu));
    memset(&cpus_online, 0, sizeof(cpus_online));
    memset(fair_queues, 0, sizeof(fair_queues));
    memset(&fair_idle, 0, sizeof(fair_idle));
    memset(&fair_waiting, 0, sizeof(fair_waiting));
    fake_cpu[0].locks_held = 0; /* a test before may have failed anywhere */
    for (unsigned i = 0; i < cpus; i++) {
        bit_set(cpus_online.bits, i);
        fair_queue_init(&sim_cpu[i].q, i);
        sim_cpu[i].idle_since = sim_now;
    }
    for (unsigned i = 0; i < cpus; i++)
        cpu_schedule(i);
}

void sim_end(void)
{
    for (size_t i = 0; i < vcpu_count; i++)
        free(vcpus[i]);
    free(vcpus);
    free(heap);
    free(sim_cpu);
    vcpus = NULL;
    heap = NULL;
    vcpu_count = heap_size = heap_room = 0;
}

struct sim_vcpu *sim_vcpu(uint32_t weight, struct sched_group *group, ns_t burst, ns_t sleep)
{
    struct sim_vcpu *v = calloc(1, sizeof(*v));
    v->e.blockers = SCHED_BLOCKED;
    v->e.weight = weight;
    v->e.group = group;
    v->e.cpu = vcpu_count % cpu_count;
    v->runstate = RUNSTATE_blocked;
    memset(&v->e.hard, 0xff, sizeof(v->e.hard));
    memset(&v->e.soft, 0xff, sizeof(v->e.soft));
    v->burst = v->left = burst;
    v->sleep = sleep;
    vcpus = realloc(vcpus, (vcpu_count + 1) * sizeof(*vcpus));
    vcpus[vcpu_count++] = v;
    return v;
}

void sim_start(struct sim_vcpu *v)
{
    v->left = jitter(v, v->burst);
    sim_unblock(v, SCHED_BLOCKED);
}

ns_t sim_ran(const struct sim_vcpu *v)
{
    const struct sim_cpu *c = &sim_cpu[v->e.cpu];
    return v->ran + (c->running == v ? sim_now - v->since : 0);
}

ns_t sim_idle_total(void)
{
    ns_t total = 0;
    for (unsigned i = 0; i < cpu_count; i++)
        total += sim_cpu[i].idle + (sim_cpu[i].running ? 0 : sim_now - sim_cpu[i].idle_since);
    return total;
}

bool sim_saw_cpu(const struct sim_vcpu *v, unsigned cpu)
{
    return v->cpus_seen[cpu / 64] >> (cpu % 64) & 1;
}
