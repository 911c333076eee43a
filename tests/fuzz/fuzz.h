/*
 * What the fuzz targets share: libFuzzer's input taken apart into choices, and a check that ends
 * the run with a report. Input that has run out gives zeros.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static const uint8_t *input;
static size_t input_left;

static inline void take(void *to, size_t n)
{
    size_t have = n < input_left ? n : input_left;
    memset(to, 0, n);
    memcpy(to, input, have);
    input += have;
    input_left -= have;
}

static inline uint8_t take8(void)
{
    uint8_t v;
    take(&v, 1);
    return v;
}

static inline uint32_t take32(void)
{
    uint32_t v;
    take(&v, 4);
    return v;
}

static inline uint64_t take64(void)
{
    uint64_t v;
    take(&v, 8);
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
