/* SOURCES: control/cpuid_policy.c fake/guest.c lib/string.c */
/* CPUID policies: what is hidden, what a toolstack can and cannot change, the tools' formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "control/cpuid_policy.h"
#include "hvm/ops.h"

/* What the policy asks of other rooms, and is not asked by these tests. */
struct cpu_features cpu_features = {.xcr0_mask = 7};
const struct hvm_ops *hvm_ops; /* no such guest here */
static struct domain domain;
static struct vcpu vcpu = {.id = 3, .domain = &domain};
static struct cpu cpu = {.current = &vcpu};
struct cpu *this_cpu(void)
{
    return &cpu;
}
static uint64_t xcr0;
uint64_t fpu_get_xcr0(void)
{
    return xcr0;
}
bool time_tsc_stable(void)
{
    return true;
}
uint64_t time_tsc_khz(void)
{
    return 1000000;
}
const struct tsc_scale *time_scale(void)
{
    static const struct tsc_scale s = {.mul = 0x80000000u, .shift = 1};
    return &s;
}

/* A CPU with everything. */
static void all_ones(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    out[0] = leaf == 0 ? 0x20 : leaf == 0x80000000 ? 0x80000021 : ~0u;
    out[1] = out[2] = out[3] = ~0u;
}

static struct cpuid_policy raw, masked;

static const struct xen_cpuid_leaf *leaf(const struct cpuid_policy *p, uint32_t l, uint32_t sub)
{
    for (unsigned i = 0; i < p->count; i++)
        if (p->leaf[i].leaf == l &&
            (p->leaf[i].subleaf == sub || p->leaf[i].subleaf == XEN_CPUID_NO_SUBLEAF))
            return &p->leaf[i];
    return NULL;
}

static int setup(void **state)
{
    cpuid_policy_build(all_ones, &raw, &masked);
    return 0;
}

static void test_hidden(void **state)
{
    const struct xen_cpuid_leaf *l = leaf(&masked, 1, 0);
    assert_int_equal(l->d & (1u << 3), 0);                            /* PSE: no large pages */
    assert_int_equal(l->d & (1u << 12), 0);                           /* MTRR */
    assert_int_equal(l->c & (1u << 3), 0);                            /* MONITOR */
    assert_int_equal(l->c & (1u << 5), 0);                            /* VMX */
    assert_true(l->c & (1u << 26));                                   /* XSAVE stays */
    assert_int_equal(leaf(&masked, 0x80000001, 0)->c & (1u << 2), 0); /* SVM */
    assert_int_equal(leaf(&masked, 7, 0)->b & (1u << 7), 0);          /* SMEP */
    assert_int_equal(leaf(&masked, 7, 0)->b & (1u << 20), 0);         /* SMAP */
    assert_int_equal(leaf(&masked, 0, 0)->a, 0xd);
    assert_int_equal(leaf(&masked, 0x80000000, 0)->a, 0x80000008);
    assert_true(raw.count <= CPUID_MAX_LEAVES);
}

static void test_extend(void **state)
{
    static struct cpuid_policy hvm, none, none_hvm;
    cpuid_policy_extend(&raw, &masked, &hvm);
    assert_true(leaf(&hvm, 7, 0)->b & (1u << 20));         /* SMAP */
    assert_true(leaf(&hvm, 1, 0)->c & (1u << 21));         /* x2APIC */
    assert_int_equal(leaf(&hvm, 1, 0)->c & (1u << 5), 0);  /* VMX: still not */
    assert_int_equal(leaf(&hvm, 0x80000001, 0)->c & 4, 0); /* SVM: neither */
    assert_true(leaf(&hvm, 1, 0)->d & (1u << 12));         /* MTRR */
    none = masked;
    for (unsigned i = 0; i < none.count; i++)
        none.leaf[i].b = none.leaf[i].c = none.leaf[i].d = 0;
    cpuid_policy_extend(&none, &none, &none_hvm); /* a CPU without them */
    assert_int_equal(leaf(&none_hvm, 7, 0)->b, 0);
    assert_true(leaf(&none_hvm, 1, 0)->c & (1u << 21)); /* ours */
}

static void test_restrict(void **state)
{
    uint32_t bad_leaf = 0, bad_sub = 0;
    struct cpuid_policy p = {2, {{0, XEN_CPUID_NO_SUBLEAF, 0x20, 0, 0, 0}}};
    assert_int_equal(cpuid_policy_restrict(&p, &masked, &bad_leaf, &bad_sub), -XEN_EINVAL);
    assert_int_equal(bad_leaf, 0);
    assert_int_equal(bad_sub, XEN_CPUID_NO_SUBLEAF);

    struct cpuid_policy own = {1, {{0x40000000, XEN_CPUID_NO_SUBLEAF, 1, 2, 3, 4}}};
    assert_int_equal(cpuid_policy_restrict(&own, &masked, &bad_leaf, &bad_sub), 0);
    assert_int_equal(own.count, 0);
}

static void test_put(void **state)
{
    static struct xen_cpuid_leaf leaves[CPUID_MAX_LEAVES];
    static struct xen_msr_entry msrs[4];
    uint32_t nl = 3, nm = 4;
    guest_ptr_t lp = guest_ptr((uint64_t)leaves), mp = guest_ptr((uint64_t)msrs);
    assert_int_equal(cpuid_policy_put(&masked, lp, &nl, mp, &nm), -XEN_ENOBUFS);
    nl = CPUID_MAX_LEAVES;
    assert_int_equal(cpuid_policy_put(&masked, lp, &nl, mp, &nm), 0);
    assert_int_equal(nl, masked.count);
    assert_int_equal(nm, cpuid_policy_max_msrs());
    nl = nm = 0; /* no buffers: only the sizes are asked */
    assert_int_equal(cpuid_policy_put(&masked, guest_ptr(0), &nl, guest_ptr(0), &nm), 0);
    assert_int_equal(nl, CPUID_MAX_LEAVES);
    nl = CPUID_MAX_LEAVES;
    assert_int_equal(cpuid_policy_put(&masked, guest_ptr(8), &nl, mp, &nm), -XEN_EFAULT);
}

static void test_featureset(void **state)
{
    uint32_t words[32];
    unsigned n = cpuid_policy_featureset(&masked, words, 32);
    assert_int_equal(n, 19);
    assert_int_equal(words[0], leaf(&masked, 1, 0)->d);
    assert_int_equal(words[1], leaf(&masked, 1, 0)->c);
    assert_int_equal(words[5], leaf(&masked, 7, 0)->b);
    assert_int_equal(words[16], 0);
}

static void test_hypervisor_leaves(void **state)
{
    uint32_t out[4];
    cpuid_guest(&domain, 0x40000000, 0, out);
    assert_memory_equal(&out[1], "XenVMMXenVMM", 12);
    cpuid_guest(&domain, 0x40000001, 0, out);
    assert_int_equal(out[0], 4 << 16 | 17);
    cpuid_guest(&domain, 0x40000003, 0, out);
    assert_int_equal(out[2], 1000000);
    cpuid_guest(&domain, 0x12345678, 0, out);
    assert_int_equal(out[0] | out[1] | out[2] | out[3], 0);
}

/* Components as Intel's CPUs have them: size, offset, aligned where there are no holes. */
static void avx512(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    static const uint32_t component[][3] = {
        [2] = {256, 576, 0},  [3] = {64, 960, 0},    [4] = {64, 1024, 0}, [5] = {64, 1088, 0},
        [6] = {512, 1152, 2}, [7] = {1024, 1664, 2}, [9] = {8, 2688, 0},
    };
    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf == 0)
        out[0] = 0xd;
    else if (leaf == 0xd && sub == 0)
        out[0] = 0x2ff;
    else if (leaf == 0xd && sub == 1)
        out[0] = 0xf;
    else if (leaf == 0xd && sub < 10)
        memcpy(out, component[sub], sizeof(component[sub]));
}

static uint32_t sizes(uint64_t enabled, uint32_t *most, uint32_t *compacted)
{
    uint32_t out[4];
    xcr0 = enabled;
    cpuid_guest(&domain, 0xd, 1, out);
    *compacted = out[1];
    cpuid_guest(&domain, 0xd, 0, out);
    assert_int_equal(out[0] | out[3], 0xe7); /* neither MPX nor PKRU */
    *most = out[2];
    return out[1];
}

static void test_xsave_sizes(void **state)
{
    static struct cpuid_policy all, policy;
    uint32_t most, compacted, out[4];
    cpuid_policy_build(avx512, &all, &policy);
    domain.cpuid = &policy;
    cpu_features.xcr0_mask = 0xe7;
    assert_int_equal(sizes(0xe7, &most, &compacted), 2688);
    assert_int_equal(compacted, 576 + 256 + 64 + 512 + 1024);
    assert_int_equal(most, 2688);
    assert_int_equal(sizes(7, &most, &compacted), 832); /* as much as the guest enables */
    assert_int_equal(compacted, 832);
    assert_int_equal(most, 2688);
    assert_int_equal(sizes(1, &most, &compacted), 576);
    cpuid_guest(&domain, 0xd, 9, out);
    assert_int_equal(out[0] | out[1], 0);
    for (unsigned i = 0; i < policy.count; i++)
        if (policy.leaf[i].leaf == 0xd && policy.leaf[i].subleaf == 5)
            policy.leaf[i].a = 40; /* what follows it is aligned */
    sizes(0xe7, &most, &compacted);
    assert_int_equal(compacted, 576 + 256 + 64 + 512 + 1024);
    for (unsigned i = 0; i < policy.count; i++)
        if (policy.leaf[i].leaf == 0xd && policy.leaf[i].subleaf == 1)
            policy.leaf[i].a &= ~2u; /* no XSAVEC */
    sizes(7, &most, &compacted);
    assert_int_equal(compacted, 0);
    domain.cpuid = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hidden),      cmocka_unit_test(test_extend),
        cmocka_unit_test(test_restrict),    cmocka_unit_test(test_put),
        cmocka_unit_test(test_featureset),  cmocka_unit_test(test_hypervisor_leaves),
        cmocka_unit_test(test_xsave_sizes),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
