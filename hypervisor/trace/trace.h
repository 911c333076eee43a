/*
 * Counters: one list, one dump (debug key 'p'). Per CPU, plain increments, summed when shown.
 */
#ifndef TRACE_TRACE_H
#define TRACE_TRACE_H

#include "lib/types.h"

/* clang-format off */
#define TRACE_COUNTERS(X) \
    X(hypercalls) \
    X(page_faults) \
    X(pt_write_emulated) \
    X(gp_emulated) \
    X(irqs) \
    X(timer_irqs) \
    X(ipis) \
    X(context_switches) \
    X(event_sends) \
    X(tlb_flushes) \
    X(tlb_shootdowns) \
    X(pages_scrubbed) \
    X(pages_scrubbed_idle) \
    X(grant_maps) \
    X(grant_unmaps) \
    X(grant_copies) \
    X(mmu_updates) \
    X(syscalls_bounced) \
    X(hvm_exits)
/* clang-format on */

enum trace_counter {
#define X(name) TRACE_##name,
    TRACE_COUNTERS(X)
#undef X
        TRACE_COUNT
};

void trace_init(void); /* registers the debug key */

#endif
