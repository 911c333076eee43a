/*
 * A simulated machine of any number of CPUs under the real scheduling policy (sched/fair.c and its
 * companions): events in virtual time, each CPU doing what sched/sched.c does on a real one.
 */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

#include "sched/fair.h"

struct sim_vcpu {
    struct sched_entity e;
    /* behaviour: runs `burst`, then sleeps `sleep`, again and again; sleep 0: never sleeps */
    ns_t burst, sleep;
    bool jitter; /* both vary from half to one and a half */
    ns_t left;   /* of this burst */
    ns_t ran;    /* in total */
    ns_t since;  /* runs since then, while it runs */
    bool ran_before;
    unsigned last_cpu;
    ns_t woken; /* when it last became ready to run, 0 = it has run since */
    ns_t latency_most, latency_sum, wakes;
    ns_t wait_most; /* longest time ready without running */
    ns_t ready_since;
    uint64_t cpus_seen[MAX_CPUS / 64]; /* where it has run */
    int runstate;
    uint64_t generation;
};

struct sim_cpu {
    struct fair_queue q;
    struct sim_vcpu *running, *resident;
    ns_t idle, idle_since;
    ns_t timer;
    bool kicked;
    uint64_t generation, schedules, switches;
};

extern struct sim_cpu *sim_cpu;
extern ns_t sim_now;
extern uint64_t sim_steps;                      /* fair_schedule() calls */
extern uint64_t sim_migrations, sim_operations; /* moves to another CPU; cost of the policy */
extern uint64_t sim_seed;                       /* set before sim_begin() */

void sim_begin(unsigned cpus);
void sim_end(void);
void sim_run(ns_t duration);
/* A vCPU that sleeps; sim_start() wakes it. */
struct sim_vcpu *sim_vcpu(uint32_t weight, struct sched_group *group, ns_t burst, ns_t sleep);
void sim_start(struct sim_vcpu *v);
void sim_block(struct sim_vcpu *v, uint32_t bit); /* as sched_block() by somebody else */
void sim_unblock(struct sim_vcpu *v, uint32_t bit);
ns_t sim_ran(const struct sim_vcpu *v); /* up to now */
ns_t sim_latency(double part);          /* wake-to-run: this part of all took at most so long */
void sim_forget_latencies(void);
ns_t sim_idle_total(void); /* all CPUs, up to now */
uint64_t sim_random(void);
bool sim_saw_cpu(const struct sim_vcpu *v, unsigned cpu);

#endif
