/*
 * Time as struct vcpu_time_info tells it (xen/xen.h): a version that is odd while it changes, and
 * the TSC scaled from a known point.
 */
#include "guest.h"

uint64_t time_of(volatile struct vcpu_time_info *t)
{
    for (;;) {
        uint32_t version = t->version;
        uint64_t delta, ns;

        asm volatile("" ::: "memory");
        delta = rdtsc() - t->tsc_timestamp;
        delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
        ns = t->system_time + (uint64_t)(((unsigned __int128)delta * t->tsc_to_system_mul) >> 32);
        asm volatile("" ::: "memory");
        if (!(version & 1) && version == t->version)
            return ns;
    }
}

uint64_t time_now(void)
{
    return time_of(&vcpu_info(this_cpu()->id)->time);
}

void time_spin(uint64_t ns)
{
    uint64_t end = time_now() + ns;

    while (time_now() < end)
        cpu_relax();
}
