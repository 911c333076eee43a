/* SOURCES: lib/unpack.c */
/* LIBS: -llzma -lzstd -llz4 -lz */
/* A domain 0 kernel file: wrappers, and the glue to the decompressors, with little memory. */
#include "fuzz.h"

#include "lib/unpack.h"

#define MOST (32u << 20)
static volatile uint8_t sink; /* what came out can be read */
static void *given[64];
static unsigned count;
static size_t total;

static void *give(void *opaque, size_t n)
{
    if (count == sizeof(given) / sizeof(given[0]) || n > MOST - total)
        return NULL;
    total += n;
    return given[count++] = malloc(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct unpack_arena arena = {give, NULL};
    const void *elf = NULL;
    size_t n = 0;
    const char *why = NULL;
    uint8_t *copy = malloc(size);
    memcpy(copy, data, size);
    if (unpack_kernel(copy, size, &arena, &elf, &n, &why) == 0) {
        for (size_t i = 0; i < n; i += 64)
            sink += ((const uint8_t *)elf)[i];
    } else {
        CHECK(why);
    }
    while (count)
        free(given[--count]);
    total = 0;
    free(copy);
    return 0;
}
