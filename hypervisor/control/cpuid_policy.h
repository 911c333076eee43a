/* CPUID policies: lists of leaves (struct xen_cpuid_leaf, xen/arch-x86/xen.h). */
#ifndef CONTROL_CPUID_POLICY_H
#define CONTROL_CPUID_POLICY_H

#include "domain/domain.h"
#include "hypercall/guest_access.h"

#define CPUID_MAX_LEAVES 64

struct cpuid_policy {
    unsigned count;
    struct xen_cpuid_leaf leaf[CPUID_MAX_LEAVES];
};

typedef void (*cpuid_reader)(uint32_t leaf, uint32_t sub, uint32_t out[4]);

void cpuid_policy_init(void); /* start of day */
void cpuid_policy_build(cpuid_reader read, struct cpuid_policy *raw, struct cpuid_policy *masked);

/* @base, which was made of @raw, and what hardware-virtualized guests may see beyond it. */
void cpuid_policy_extend(const struct cpuid_policy *raw, const struct cpuid_policy *base,
                         struct cpuid_policy *out);

const struct cpuid_policy *cpuid_policy_host(void);
const struct cpuid_policy *cpuid_policy_pv(void);
const struct cpuid_policy *cpuid_policy_hvm(void);
const struct cpuid_policy *cpuid_policy_of(const struct domain *d); /* its own, or its kind's */

/* Takes away what is not in @most; -XEN_EINVAL names the leaf that cannot be. */
int __must_check cpuid_policy_restrict(struct cpuid_policy *p, const struct cpuid_policy *most,
                                       uint32_t *bad_leaf, uint32_t *bad_subleaf);

/*
 * Out to the tools; the counts are capacity in, number written out (or the most there can be, where
 * there is no buffer). -XEN_ENOBUFS, -XEN_EFAULT.
 */
int __must_check cpuid_policy_put(const struct cpuid_policy *p, guest_ptr_t leaves,
                                  uint32_t *nr_leaves, guest_ptr_t msrs, uint32_t *nr_msrs);
unsigned cpuid_policy_max_msrs(void);

/* Fills up to @max feature words; returns how many there are. */
unsigned cpuid_policy_featureset(const struct cpuid_policy *p, uint32_t *words, unsigned max);

#endif
