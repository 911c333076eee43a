/*
 * What a measured guest (guest.c) keeps in one page of its memory, and domain 0's program (watch.c)
 * maps, zeroes when it begins to measure, and prints. The guest says which frame it is in its
 * shared_info's arch.pfn_to_mfn_frame_list_list, which only those read who save a guest.
 */
#ifndef BENCH_SCHED_RESULTS_H
#define BENCH_SCHED_RESULTS_H

#include <stdint.h>

#define RESULTS_MAGIC 0x6465686353544221u

/* Times that are late, in 32 steps to each doubling: a step is at most 3 % wide. */
#define LATE_STEPS 32u
#define LATE_SLOTS (26 * LATE_STEPS)

struct results {
    uint64_t magic;
    uint64_t round_ns; /* that a round of work takes undisturbed; not zeroed */
    uint64_t rounds;   /* of work done */
    uint64_t gaps;     /* rounds in which it did not run for a while */
    uint64_t skip;     /* wake-ups not to count: domain 0 is still busy with beginning */
    uint64_t wakes;    /* that it slept until a time and was there for */
    uint64_t missed;   /* times that had passed before it could sleep until them */
    uint64_t longest;  /* ns from such a time until it ran */
    uint32_t late[LATE_SLOTS];
};

static inline unsigned late_slot(uint64_t ns)
{
    unsigned slot = (unsigned)ns;

    if (ns >= LATE_STEPS) {
        unsigned top = 63 - (unsigned)__builtin_clzl(ns); /* at least 5 */
        slot = (top - 4) * LATE_STEPS + (unsigned)(ns >> (top - 5)) % LATE_STEPS;
    }
    return slot < LATE_SLOTS ? slot : LATE_SLOTS - 1;
}

/* The least time that does not belong to this slot or one below it. */
static inline uint64_t late_end(unsigned slot)
{
    unsigned next = slot + 1, step = next % LATE_STEPS, octave = next / LATE_STEPS;

    return octave ? (uint64_t)(LATE_STEPS + step) << (octave - 1) : step;
}

#endif
