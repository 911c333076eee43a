/*
 * Mixes of domains that compute, and what each gets of a CPU, in parts of 10,000. The simulation
 * (tests/unit/fair_test.c) and the emulated machine (tests/guests/shares) are both held against
 * this table, the first within 100 and the second within 200 parts: so they agree with each other.
 *
 * The machine runs those of one CPU: only with one does counting instructions give it a clock of
 * which no CPU misses a part.
 */
#ifndef SIM_MIXES_H
#define SIM_MIXES_H

#define MIX_DOMAINS 4

struct mix_domain {
    unsigned weight, cap; /* weight 0: no more domains */
    unsigned cpus;        /* mask of those that it may run on */
    unsigned share;       /* of a CPU, in parts of 10,000 */
};

struct mix {
    const char *name;
    unsigned cpus;
    struct mix_domain domain[MIX_DOMAINS];
};

static const struct mix mixes[] = {
    {"one to eight",
     1,
     {{128, 0, 1, 667}, {256, 0, 1, 1333}, {512, 0, 1, 2667}, {1024, 0, 1, 5333}}},
    {"caps of 10, 25 and 50 %",
     1,
     {{256, 10, 1, 1000}, {256, 25, 1, 2500}, {256, 50, 1, 3250}, {256, 0, 1, 3250}}},
    {"caps with time to spare", 1, {{256, 50, 1, 5000}, {1024, 30, 1, 3000}}},
    {"a heavy one", 1, {{2304, 0, 1, 9000}, {256, 0, 1, 1000}}},
    {"three alike on two CPUs", 2, {{256, 0, 3, 6667}, {256, 0, 3, 6667}, {256, 0, 3, 6667}}},
    {"one that deserves more than a CPU",
     2,
     {{10000, 0, 3, 10000}, {256, 0, 3, 5000}, {256, 0, 3, 5000}}},
    {"two pinned and one free", 2, {{256, 0, 1, 5000}, {256, 0, 1, 5000}, {256, 0, 3, 10000}}},
};

#endif
