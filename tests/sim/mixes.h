/*
 * Mixes of domains that compute, and what each gets of a CPU, in parts of 10,000. The simulation
 * (tests/unit/fair_test.c) and the emulated machine (tests/guests/shares) are both held against
 * this table, the first within 100 and the second within 200 parts: so they agree with each other.
 */
#ifndef SIM_MIXES_H
#define SIM_MIXES_H

#define MIX_CPUS    2
#define MIX_DOMAINS 4

struct mix_domain {
    unsigned weight, cap; /* weight 0: no more domains */
    unsigned cpus;        /* mask of those that it may run on */
    unsigned share;       /* of a CPU, in parts of 10,000 */
};

struct mix {
    const char *name;
    struct mix_domain domain[MIX_DOMAINS];
};

static const struct mix mixes[] = {
    {"three alike on two CPUs", {{256, 0, 3, 6667}, {256, 0, 3, 6667}, {256, 0, 3, 6667}}},
    {"one to eight on one CPU",
     {{128, 0, 2, 667}, {256, 0, 2, 1333}, {512, 0, 2, 2667}, {1024, 0, 2, 5333}}},
    {"caps of 10, 25 and 50 % on one CPU",
     {{256, 10, 2, 1000}, {256, 25, 2, 2500}, {256, 50, 2, 3250}, {256, 0, 2, 3250}}},
    {"caps with CPUs to spare", {{256, 60, 3, 6000}, {1024, 30, 3, 3000}}},
    {"one that deserves more than a CPU",
     {{10000, 0, 3, 10000}, {256, 0, 3, 5000}, {256, 0, 3, 5000}}},
    {"two pinned and one free", {{256, 0, 1, 5000}, {256, 0, 1, 5000}, {256, 0, 3, 10000}}},
};

#endif
