/* Accesses that may trap. */
#include "guest.h"

bool try_read(const volatile void *p, uint64_t *value)
{
    uint64_t v = 0;

    TRY("movq (%1), %0", : "+r"(v) : "r"(p) : "memory");
    *value = v;
    return !trapped();
}

bool try_write(volatile void *p, uint64_t value)
{
    TRY("movq %1, (%0)", ::"r"(p), "r"(value) : "memory");
    return !trapped();
}
