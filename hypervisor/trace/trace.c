/* Counters (trace/trace.h): summed over the CPUs and printed when asked; racy reads do no harm. */
#include "trace/trace.h"
#include "console/console.h"
#include "cpu/cpu.h"

static const char *const names[TRACE_COUNT] = {
#define X(name) #name,
    TRACE_COUNTERS(X)
#undef X
};

static void show(char key __unused)
{
    for (unsigned c = 0; c < TRACE_COUNT; c++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < cpus_present; i++)
            if (cpus[i])
                sum += READ_ONCE(cpus[i]->counters[c]);
        log_always("  %-18s %lu", names[c], sum);
    }
}

void trace_init(void)
{
    key_register('p', "counters", show);
}
