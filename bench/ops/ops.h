/*
 * What the measured operations share. Each is a function that does its operation n times; main.c
 * runs it once to warm up and once between two markers (bench/counter/counter.c).
 */
#ifndef BENCH_OPS_H
#define BENCH_OPS_H

#include "guest.h"

struct op {
    const char *name;
    void (*setup)(void); /* before the warm-up; NULL */
    void (*run)(unsigned n);
    unsigned count; /* of the measured run */
    unsigned units; /* that one call does: entries of a batch */
};

extern const struct op call_ops[], memory_ops[], event_ops[], grant_ops[]; /* end: no name */

/* A failed operation would be measured as a cheap one. */
#define MUST(call)                                                                                 \
    do {                                                                                           \
        long must = (call);                                                                        \
        if (must < 0)                                                                              \
            failed(#call, must);                                                                   \
    } while (0)
_Noreturn void failed(const char *what, long error);

#endif
