/*
 * Debug registers of a vCPU (APM vol. 2 section 13.1). Breakpoints on the guest's own addresses run
 * on the CPU's registers while the vCPU does; none may watch the hypervisor's addresses or ports.
 * DR7 stays clear on CPUs whose guest has no breakpoint, so nothing is loaded in the usual case.
 */
#include "hypercall/table.h"
#include "pv/internal.h"

#define DR7_ENABLED   0xffUL
#define DR7_WRITABLE  0xffff03ffUL
#define DR6_REPORTED  0xe00fUL
#define DR7_TYPE_PORT 2

static int check_dr7(uint64_t value)
{
    if (value >> 32 || (value & DR7_GD))
        return -XEN_EINVAL;
    for (unsigned i = 0; i < 4; i++) {
        bool enabled = value >> (2 * i) & 3;
        if (enabled && (value >> (16 + 4 * i) & 3) == DR7_TYPE_PORT)
            return -XEN_EINVAL;
    }
    return 0;
}

static int check(unsigned reg, uint64_t value)
{
    switch (reg) {
    case 0 ... 3:
        return is_guest_addr(value) ? 0 : -XEN_EPERM;
    case 4: /* 4 and 5 are other names of 6 and 7 */
    case 6:
        return value >> 32 ? -XEN_EINVAL : 0;
    case 5:
    case 7:
        return check_dr7(value);
    default:
        return -XEN_EINVAL;
    }
}

int pv_debugregs_check(const unsigned long *regs)
{
    for (unsigned i = 0; i < 8; i++) {
        int rc = i == 4 || i == 5 ? 0 : check(i, regs[i]);
        if (rc)
            return rc;
    }
    return 0;
}

void pv_debugregs_load(const struct vcpu *v)
{
    const uint64_t *dr = v->pv->debugreg;
    if (likely(!(dr[7] & DR7_ENABLED)))
        return;
    write_breakpoints(dr);
    write_dr6(DR6_DEFAULT);
    write_dr7(dr[7]);
}

void pv_debugregs_unload(const struct vcpu *v)
{
    if (unlikely(v->pv->debugreg[7] & DR7_ENABLED))
        write_dr7(DR7_DEFAULT);
}

/* @v is the current vCPU, or quiet and not on a CPU. */
int pv_debugreg_set(struct vcpu *v, unsigned reg, uint64_t value)
{
    int rc = check(reg, value);
    if (rc)
        return rc;
    if (reg == 4 || reg == 5)
        reg += 2;
    if (reg == 6)
        value = DR6_DEFAULT | (value & DR6_REPORTED);
    if (reg == 7)
        value = DR7_DEFAULT | (value & DR7_WRITABLE);
    if (v == current_vcpu())
        pv_debugregs_unload(v);
    v->pv->debugreg[reg] = value;
    if (v == current_vcpu())
        pv_debugregs_load(v);
    return 0;
}

int pv_debugreg_get(const struct vcpu *v, unsigned reg, uint64_t *value)
{
    if (reg > 7)
        return -XEN_EINVAL;
    *value = v->pv->debugreg[reg == 4 || reg == 5 ? reg + 2 : reg];
    return 0;
}

long hc_set_debugreg(uint64_t reg, uint64_t value)
{
    return reg > 7 ? -XEN_EINVAL : pv_debugreg_set(current_vcpu(), reg, value);
}

/* The ABI has no room for an error beside the values; -EINVAL it is. */
long hc_get_debugreg(uint64_t reg)
{
    uint64_t value;
    int rc = reg > 7 ? -XEN_EINVAL : pv_debugreg_get(current_vcpu(), reg, &value);
    return rc ? rc : (long)value;
}
