/*
 * Operations of para-virtualized guests (docs/benchmarks.md, group 1), run as domain 0 on whatever
 * hypervisor is to be measured. Says on the console which operation comes next; bench/counts puts
 * that together with the counters that the plugin writes at the markers.
 */
#include "../counter/mark.h"
#include "ops.h"

const char test_name[] = "ops";

_Noreturn void failed(const char *what, long error)
{
    print("FAIL %s: error %ld\n", what, error);
    shut_down(SHUTDOWN_crash);
}

static void measure(const struct op *op)
{
    if (op->setup)
        op->setup();
    op->run(op->count / 4 + 1);
    print("op %s %u\n", op->name, op->count * op->units);
    MARK(MARK_BEGIN);
    op->run(op->count);
    MARK(MARK_END);
}

static void measure_all(const struct op *ops)
{
    for (; ops->name; ops++)
        measure(ops);
}

void test_main(void)
{
    event_init();
    measure_all(call_ops);
    measure_all(memory_ops);
    measure_all(event_ops);
    measure_all(grant_ops);
}
