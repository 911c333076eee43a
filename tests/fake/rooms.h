/*
 * Everything around domain/, faked: the scheduler sets bits and counts, the other rooms take and
 * give back memory, the machine's end is a jump back into the test.
 */
#ifndef FAKE_ROOMS_H
#define FAKE_ROOMS_H

#include <setjmp.h>

#include "domain/domain.h"

enum { MACHINE_RUNS, MACHINE_HALTED, MACHINE_REBOOTED };

struct fake_rooms {
    unsigned pokes, schedules, delivers, resched;
    unsigned virq[32];          /* event_send_virq(), event_send_global_virq() */
    unsigned relinquish_slices; /* -XEN_EAGAIN so many times */
    unsigned relinquished;      /* domain_relinquish() calls that were the last */
    int any_pending;            /* what event_any_pending() answers */
    void (*during_any_pending)(void);
    void (*during_schedule)(void); /* schedule() of a blocked vCPU: must make it runnable */
    void (*during_deliver)(struct vcpu *v);
    void (*during_preempt)(void);
    int set_context; /* what pv_set_context() answers */
    int permission;
    bool user_mode_switches; /* pv_switch_mode() was called */
    jmp_buf machine_end;
};
extern struct fake_rooms rooms;

void fake_rooms_reset(void);
/* MACHINE_RUNS when @fn returned. */
int fake_machine_end(void (*fn)(void *), void *arg);

#endif
