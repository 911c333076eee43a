/*
 * The CPU room and the console for tests on the host. Every symbol is weak: a test that links the
 * real file gets the real one. panic() fails the test; log lines go to stderr when the environment
 * variable VERBOSE is set; grace_call() runs its function at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "console/console.h"
#include "cpu/cpu.h"
#include "fake/cpu.h"

#define WEAK __attribute__((weak))

WEAK struct cpu fake_cpu[4] = {
    {.self = &fake_cpu[0], .id = 0, .online = true},
    {.self = &fake_cpu[1], .id = 1, .apic_id = 2},
    {.self = &fake_cpu[2], .id = 2, .apic_id = 4},
    {.self = &fake_cpu[3], .id = 3, .apic_id = 6},
};
WEAK unsigned fake_cpu_number;
WEAK unsigned fake_tlb_flushes, fake_tlb_page_flushes;
WEAK struct cpu_mask fake_tlb_mask;
WEAK unsigned fake_ipis, fake_ipi_cpu;
WEAK uint8_t fake_ipi_vector;
WEAK bool fake_panic_expected;

WEAK struct cpu *cpus[MAX_CPUS] = {&fake_cpu[0], &fake_cpu[1], &fake_cpu[2], &fake_cpu[3]};
WEAK unsigned cpus_present = 4;
WEAK struct cpu_mask cpus_online = {{1}};
WEAK struct cpu_features cpu_features = {
    .nx = true, .phys_bits = 48, .xcr0_mask = 7, .xsave = true, .xsave_size = 832};

void fake_cpus_online(unsigned n)
{
    cpus_online = (struct cpu_mask){{(1UL << n) - 1}};
    for (unsigned i = 0; i < ARRAY_SIZE(fake_cpu); i++)
        fake_cpu[i].online = i < n;
}

WEAK struct cpu *this_cpu(void)
{
    return &fake_cpu[fake_cpu_number];
}

WEAK void spin_poll(void)
{
}

WEAK void ipi_send(unsigned cpu, uint8_t vector)
{
    fake_ipis++;
    fake_ipi_cpu = cpu;
    fake_ipi_vector = vector;
}

WEAK void ipi_call(const struct cpu_mask *mask, void (*fn)(void *), void *arg, bool wait)
{
    unsigned here = fake_cpu_number;
    for (unsigned i = 0; i < ARRAY_SIZE(fake_cpu); i++) {
        fake_cpu_number = i;
        if (mask->bits[0] >> i & 1)
            fn(arg);
    }
    fake_cpu_number = here;
}

WEAK void ipi_stop_others(void)
{
}

WEAK void tlb_flush_mask(const struct cpu_mask *mask)
{
    fake_tlb_flushes++;
    fake_tlb_mask = *mask;
}

WEAK void tlb_flush_page_mask(const struct cpu_mask *mask, uint64_t va)
{
    fake_tlb_flushes++;
    fake_tlb_page_flushes++;
    fake_tlb_mask = *mask;
}

WEAK void tlb_flush_local(void)
{
    fake_tlb_flushes++;
}

WEAK uint32_t tlb_stamp(void)
{
    return fake_tlb_flushes;
}

WEAK void tlb_filter(struct cpu_mask *mask, uint32_t stamp)
{
}

WEAK void grace_call(struct grace *g, void (*fn)(struct grace *))
{
    fn(g);
}

WEAK uint64_t extable_find(uint64_t rip)
{
    return 0;
}

WEAK const char *symbol_find(uint64_t addr, uint64_t *offset)
{
    *offset = 0;
    return "?";
}

/* --- console --- */
WEAK void log_print(enum log_level level, const char *fmt, ...)
{
    if (!getenv("VERBOSE"))
        return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

WEAK void log_guest(unsigned domid, enum log_level level, const char *fmt, ...)
{
    if (!getenv("VERBOSE"))
        return;
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "d%u ", domid);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

WEAK bool console_panicking(void)
{
    return false;
}

/* With fake_panic_expected the test uses cmocka's expect_assert_failure(). */
WEAK void panic(const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (fake_panic_expected)
        mock_assert(0, text, __FILE__, __LINE__);
    fail_msg("panic: %s", text);
    abort();
}
