/* What the faked CPU room shows to tests. */
#ifndef FAKE_CPU_H
#define FAKE_CPU_H

#include "cpu/cpu.h"

extern struct cpu fake_cpu[4];     /* cpus[0..3] point here; CPU 0 alone is online at first */
extern unsigned fake_cpu_number;   /* which of them this_cpu() is */
void fake_cpus_online(unsigned n); /* 1..4 */

extern unsigned fake_tlb_flushes;      /* calls of tlb_flush_*(), local ones too */
extern unsigned fake_tlb_page_flushes; /* of those, single pages */
extern struct cpu_mask fake_tlb_mask;  /* of the last one */
extern unsigned fake_ipis;             /* ipi_send() calls */
extern unsigned fake_ipi_cpu;          /* of the last one */
extern uint8_t fake_ipi_vector;
/* Panics are expected: wrap the call in cmocka's expect_assert_failure(). */
extern bool fake_panic_expected;

#endif
