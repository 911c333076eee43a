/* MSRs that may not exist: #GP becomes an errno. And TSC_AUX, which changes seldom. */
#include "cpu/cpu.h"

static uint32_t loaded_tsc_aux[MAX_CPUS];

void cpu_set_tsc_aux(uint32_t value)
{
    uint32_t *loaded = &loaded_tsc_aux[this_cpu()->id];
    if (!cpu_features.rdtscp || *loaded == value)
        return;
    *loaded = value;
    wrmsr(MSR_TSC_AUX, value);
}

int rdmsr_safe(uint32_t msr, uint64_t *value)
{
    uint32_t lo = 0, hi = 0;
    int rc = -XEN_EFAULT;
    __asm__ volatile("1: rdmsr\n"
                     "xor %0, %0\n"
                     "2:\n" EXTABLE("1b", "2b")
                     : "+r"(rc), "+a"(lo), "+d"(hi)
                     : "c"(msr));
    *value = rc ? 0 : (uint64_t)hi << 32 | lo;
    return rc;
}

int wrmsr_safe(uint32_t msr, uint64_t value)
{
    int rc = -XEN_EFAULT;
    __asm__ volatile("1: wrmsr\n"
                     "xor %0, %0\n"
                     "2:\n" EXTABLE("1b", "2b")
                     : "+r"(rc)
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
    return rc;
}
