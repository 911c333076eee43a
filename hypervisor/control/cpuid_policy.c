/*
 * What CPUID says to guests.
 *
 * The host's leaves are read once. A PV guest may be shown at most what `masks` leaves of them:
 * what we do not virtualize is hidden. The toolstack may give a domain its own list of leaves
 * (XEN_DOMCTL_set_cpu_policy), which is cut by the same masks, so it can take away but not add.
 *
 * PV guests that execute CPUID without the forced-emulation prefix see the real CPU, as the ABI has
 * always been; hence nothing here is a security border. It is the one list that kernels believe.
 *
 * Bits: AMD APM vol. 3 appendix E; Intel SDM vol. 2A, CPUID. Leaves 0x400000xx:
 * xen/arch-x86/cpuid.h.
 */
#include "control/cpuid_policy.h"
#include "hvm/hvm.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/arch-x86/cpuid.h>

#define BIT(n) (1u << (n))

static struct cpuid_policy host __ro_after_init;
static struct cpuid_policy pv __ro_after_init, hvm __ro_after_init;

/* Feature words that PV guests may see. Everything not named is hidden. */
static const struct {
    uint32_t leaf, sub;
    uint32_t keep[4];
} masks[] = {
    /* ecx: SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND
     * edx: FPU DE TSC MSR PAE CX8 APIC CMOV PAT CLFLUSH MMX FXSR SSE SSE2 */
    {1,
     0,
     {~0u, ~0u,
      BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) |
          BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30),
      BIT(0) | BIT(2) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(15) | BIT(16) | BIT(19) |
          BIT(23) | BIT(24) | BIT(25) | BIT(26)}},
    /* ebx: BMI1 AVX2 BMI2 ERMS AVX512F/DQ RDSEED ADX AVX512IFMA CLFLUSHOPT CLWB AVX512CD SHA
     * AVX512BW/VL; ecx: AVX512VBMI VBMI2 GFNI VAES VPCLMULQDQ VNNI BITALG VPOPCNTDQ; edx: FSRM */
    {7,
     0,
     {0,
      BIT(3) | BIT(5) | BIT(8) | BIT(9) | BIT(16) | BIT(17) | BIT(18) | BIT(19) | BIT(21) |
          BIT(23) | BIT(24) | BIT(28) | BIT(29) | BIT(30) | BIT(31),
      BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14), BIT(4)}},
    {0xd, 1, {BIT(0) | BIT(1) | BIT(2), ~0u, 0, 0}}, /* XSAVEOPT XSAVEC XGETBV1 */
    /* ecx: LAHF ABM SSE4A 3DNOWPREFETCH XOP FMA4 TBM; edx: as leaf 1, SYSCALL NX MMXEXT LM */
    {0x80000001,
     0,
     {~0u, ~0u, BIT(0) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(16) | BIT(21),
      BIT(0) | BIT(2) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(11) | BIT(15) | BIT(16) |
          BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(29)}},
    {0x80000007, 0, {0, 0, 0, BIT(8)}},   /* invariant TSC */
    {0x80000008, 0, {~0u, BIT(0), 0, 0}}, /* address sizes; CLZERO */
    {0x8000000a, 0, {0, 0, 0, 0}},        /* SVM: hidden */
};

#define MAX_BASIC    0xdu
#define MAX_EXTENDED 0x80000008u

static void apply_mask(struct xen_cpuid_leaf *l)
{
    for (unsigned i = 0; i < ARRAY_SIZE(masks); i++) {
        uint32_t sub = l->subleaf == XEN_CPUID_NO_SUBLEAF ? 0 : l->subleaf;
        if (masks[i].leaf != l->leaf || masks[i].sub != sub)
            continue;
        l->a &= masks[i].keep[0];
        l->b &= masks[i].keep[1];
        l->c &= masks[i].keep[2];
        l->d &= masks[i].keep[3];
        return;
    }
    if (l->leaf == 0)
        l->a = min(l->a, MAX_BASIC);
    else if (l->leaf == 0x80000000)
        l->a = min(l->a, MAX_EXTENDED);
    else if (l->leaf == 4)
        l->a &= 0x3ff; /* cache shape, not how many threads and cores share it */
    else if (l->leaf == 5 || l->leaf == 6 || l->leaf == 0xa || l->leaf == 0xb)
        l->a = l->b = l->c = l->d = 0; /* MONITOR, power, PMU, topology: not virtualized */
}

static bool has_subleaves(uint32_t leaf)
{
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd;
}

static unsigned subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 4:
        return 4;
    case 7:
        return 2;
    case 0xb:
        return 2;
    case 0xd:
        return 10; /* up to PKRU, component 9 */
    default:
        return 1;
    }
}

static void read_range(struct cpuid_policy *p, cpuid_reader read, uint32_t base, uint32_t limit)
{
    uint32_t out[4];
    read(base, 0, out);
    uint32_t last = out[0] < base ? base : min(out[0], limit);
    for (uint32_t leaf = base; leaf <= last; leaf++) {
        for (unsigned sub = 0; sub < subleaves(leaf) && p->count < CPUID_MAX_LEAVES; sub++) {
            read(leaf, sub, out);
            p->leaf[p->count++] = (struct xen_cpuid_leaf){
                leaf,  has_subleaves(leaf) ? sub : XEN_CPUID_NO_SUBLEAF, out[0], out[1], out[2],
                out[3]};
        }
    }
}

void cpuid_policy_build(cpuid_reader read, struct cpuid_policy *raw, struct cpuid_policy *masked)
{
    raw->count = 0;
    read_range(raw, read, 0, MAX_BASIC);
    read_range(raw, read, 0x80000000, MAX_EXTENDED);
    *masked = *raw;
    for (unsigned i = 0; i < masked->count; i++)
        apply_mask(&masked->leaf[i]);
}

/*
 * What hardware-virtualized guests may see beyond that: @host says whether the machine must have it
 * (x2APIC and the deadline timer are our own local APIC's).
 */
static const struct {
    uint32_t leaf;
    uint8_t reg;
    bool host;
    uint32_t bits;
} hvm_extra[] = {
    {1, 2, false, BIT(21) | BIT(24)},                            /* x2APIC, TSC deadline */
    {1, 3, false, BIT(12)},                                      /* MTRR: hvm/dev/mtrr.c */
    {1, 3, true, BIT(1) | BIT(3) | BIT(11) | BIT(13) | BIT(17)}, /* VME PSE SEP PGE PSE36 */
    {7, 1, true, BIT(0) | BIT(7) | BIT(20)},                     /* FSGSBASE SMEP SMAP */
    {7, 2, true, BIT(2)},                                        /* UMIP */
    {0x80000001, 2, true, BIT(4)},                               /* CR8 in other modes */
    {0x80000001, 3, true,
     BIT(1) | BIT(3) | BIT(13) | BIT(17) | BIT(26) | BIT(27)}, /* the same, 1 GiB, RDTSCP */
};

static uint32_t *leaf_reg(struct xen_cpuid_leaf *l, unsigned reg)
{
    uint32_t *const regs[] = {&l->a, &l->b, &l->c, &l->d};
    return regs[reg];
}

void cpuid_policy_extend(const struct cpuid_policy *raw, const struct cpuid_policy *base,
                         struct cpuid_policy *out)
{
    *out = *base;
    for (unsigned i = 0; i < out->count; i++)
        for (unsigned j = 0; j < ARRAY_SIZE(hvm_extra); j++) {
            struct xen_cpuid_leaf *l = &out->leaf[i], from = raw->leaf[i];
            bool first = l->subleaf == XEN_CPUID_NO_SUBLEAF || l->subleaf == 0;
            uint32_t there = hvm_extra[j].host ? *leaf_reg(&from, hvm_extra[j].reg) : ~0u;
            if (l->leaf == hvm_extra[j].leaf && first)
                *leaf_reg(l, hvm_extra[j].reg) |= hvm_extra[j].bits & there;
        }
}

#ifndef HOST_TEST
void cpuid_policy_init(void)
{
    cpuid_policy_build(cpuid, &host, &pv);
    cpuid_policy_extend(&host, &pv, &hvm);
}
#endif

const struct cpuid_policy *cpuid_policy_host(void)
{
    return &host;
}

const struct cpuid_policy *cpuid_policy_pv(void)
{
    return &pv;
}

const struct cpuid_policy *cpuid_policy_hvm(void)
{
    return &hvm;
}

const struct cpuid_policy *cpuid_policy_of(const struct domain *d)
{
    return d->cpuid ? d->cpuid : d->is_hvm ? &hvm : &pv;
}

static const struct xen_cpuid_leaf *find(const struct cpuid_policy *p, uint32_t leaf, uint32_t sub)
{
    for (unsigned i = 0; i < p->count; i++) {
        const struct xen_cpuid_leaf *l = &p->leaf[i];
        if (l->leaf == leaf && (l->subleaf == XEN_CPUID_NO_SUBLEAF || l->subleaf == sub))
            return l;
    }
    return NULL;
}

/* Unknown leaves are dropped. */
int cpuid_policy_restrict(struct cpuid_policy *p, const struct cpuid_policy *limit,
                          uint32_t *bad_leaf, uint32_t *bad_subleaf)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < p->count; i++) {
        struct xen_cpuid_leaf l = p->leaf[i];
        const struct xen_cpuid_leaf *most = find(limit, l.leaf, l.subleaf);
        if (l.leaf >= 0x40000000 && l.leaf < 0x80000000)
            continue; /* the hypervisor's own leaves are not the toolstack's */
        if (l.leaf == 0 && l.a > MAX_BASIC) {
            *bad_leaf = l.leaf;
            *bad_subleaf = l.subleaf;
            return -XEN_EINVAL;
        }
        if (!most)
            continue;
        bool features = l.leaf == 1 || l.leaf == 7 || l.leaf == 0x80000001 ||
                        l.leaf == 0x80000007 || (l.leaf == 0xd && l.subleaf == 1);
        if (features) {
            if (l.leaf != 1 && l.leaf != 0x80000001) {
                l.a &= most->a;
                l.b &= most->b;
            }
            l.c &= most->c;
            l.d &= most->d;
        }
        p->leaf[kept++] = l;
    }
    p->count = kept;
    return 0;
}

/* xen/arch-x86/cpuid.h: who we are, which ABI version, where the hypercall page MSR would be. */
static void hypervisor_leaf(const struct domain *d, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    switch (leaf - XEN_CPUID_FIRST_LEAF) {
    case 0:
        out[0] = XEN_CPUID_FIRST_LEAF + (d->is_hvm ? 4 : 3);
        out[1] = XEN_CPUID_SIGNATURE_EBX;
        out[2] = XEN_CPUID_SIGNATURE_ECX;
        out[3] = XEN_CPUID_SIGNATURE_EDX;
        break;
    case 1:
        out[0] = ABI_VERSION;
        break;
    case 2:
        out[0] = 1;          /* hypercall pages */
        out[1] = 0x40000000; /* MSR that would write one */
        out[2] = d->is_hvm ? 0 : XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD;
        break;
    case 4:
        if (!d->is_hvm || sub)
            break;
        out[0] = XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT;
        out[1] = current_vcpu()->id;
        out[2] = d->id;
        break;
    case 3:
        if (sub == 0) {
            out[0] = time_tsc_stable() ? BIT(1) : 0; /* host TSC is safe; not emulated */
            out[1] = 2;                              /* TSC mode: never emulated */
            out[2] = time_tsc_khz();
        } else if (sub == 1) {
            const struct tsc_scale *s = time_scale();
            out[0] = s->base_tsc;
            out[1] = s->base_tsc >> 32;
            out[2] = s->mul;
            out[3] = s->shift;
        } else if (sub == 2) {
            out[0] = time_tsc_khz();
        }
        break;
    }
}

static uint64_t guest_cr4(void)
{
    const struct vcpu *v = current_vcpu();
    return v->domain->is_hvm ? hvm_ops->get_reg(v, HVM_CR4) : read_cr4();
}

/* The area that XSAVE needs for @components, or XSAVEC, which leaves no holes (Intel SDM vol. 1
 * section 13.4). The CPU's own answer is not asked: Bochs 2.7 gives one for both. */
static uint32_t xsave_bytes(const struct cpuid_policy *p, uint64_t components, bool compacted)
{
    uint32_t bytes = 512 + 64; /* FXSAVE's and the header */
    for (unsigned i = 2; i < subleaves(0xd); i++) {
        const struct xen_cpuid_leaf *l = components >> i & 1 ? find(p, 0xd, i) : NULL;
        if (!l)
            continue;
        if (!compacted)
            bytes = max(bytes, l->b + l->a);
        else
            bytes = (l->c & BIT(1) ? ROUND_UP(bytes, 64) : bytes) + l->a;
    }
    return bytes;
}

/* @sub of leaf 0xd: state components, their sizes, and that of what the guest's XCR0 enables. */
static __noinline void adjust_xsave(const struct cpuid_policy *p, uint32_t sub, uint32_t out[4])
{
    const struct xen_cpuid_leaf *l = find(p, 0xd, 0);
    uint64_t components = l ? l->a & cpu_features.xcr0_mask : 0;
    if (sub == 0) {
        out[0] = components;
        out[1] = xsave_bytes(p, fpu_get_xcr0(), false);
        out[2] = xsave_bytes(p, components, false);
        out[3] = 0;
    } else if (sub == 1) {
        out[1] = out[0] & BIT(1) ? xsave_bytes(p, fpu_get_xcr0(), true) : 0; /* has XSAVEC */
    } else if (!(components >> sub & 1)) {
        out[0] = out[1] = out[2] = out[3] = 0;
    }
}

/* Answers that depend on the vCPU or on its state, not on a list. */
static void adjust(const struct cpuid_policy *p, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    unsigned id = current_vcpu()->id;
    switch (leaf) {
    case 1:
        out[1] = (out[1] & 0x0000ff00) | id * 2 << 24; /* initial APIC id; one thread */
        out[2] |= BIT(31);                             /* a hypervisor is present */
        if (out[2] & BIT(26))
            out[2] |= guest_cr4() & CR4_OSXSAVE ? BIT(27) : 0;
        break;
    case 0xb:
        out[3] = id * 2;
        break;
    case 0xd:
        adjust_xsave(p, sub, out);
        break;
    case 0x80000008:
        out[2] = 0; /* one core */
        break;
    }
}

void cpuid_guest(const struct domain *d, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    out[0] = out[1] = out[2] = out[3] = 0;
    if (leaf >= XEN_CPUID_FIRST_LEAF && leaf < XEN_CPUID_FIRST_LEAF + 0x100) {
        hypervisor_leaf(d, leaf, sub, out);
        return;
    }
    const struct cpuid_policy *p = cpuid_policy_of(d);
    const struct xen_cpuid_leaf *l = find(p, leaf, sub);
    if (!l)
        return;
    out[0] = l->a;
    out[1] = l->b;
    out[2] = l->c;
    out[3] = l->d;
    adjust(p, leaf, sub, out);
}

/* --- to and from the tools --- */

/* MSRs of a policy that libxc knows; both read as zero for our guests. */
#define MSR_INTEL_PLATFORM_INFO 0xce
#define MSR_ARCH_CAPABILITIES   0x10a
static const uint32_t policy_msrs[] = {MSR_INTEL_PLATFORM_INFO, MSR_ARCH_CAPABILITIES};

unsigned cpuid_policy_max_msrs(void)
{
    return ARRAY_SIZE(policy_msrs);
}

/* Each list is optional: without a buffer only its largest length is told. */
int cpuid_policy_put(const struct cpuid_policy *p, guest_ptr_t leaves, uint32_t *nr_leaves,
                     guest_ptr_t msrs, uint32_t *nr_msrs)
{
    bool want_leaves = !guest_is_null(leaves), want_msrs = !guest_is_null(msrs);
    if ((want_leaves && *nr_leaves < p->count) || (want_msrs && *nr_msrs < ARRAY_SIZE(policy_msrs)))
        return -XEN_ENOBUFS;
    if (want_leaves) {
        int rc = copy_to_guest(leaves, p->leaf, p->count * sizeof(p->leaf[0]));
        if (rc)
            return rc;
    }
    for (unsigned i = 0; want_msrs && i < ARRAY_SIZE(policy_msrs); i++) {
        struct xen_msr_entry m = {.idx = policy_msrs[i]};
        int rc = copy_element_to_guest(msrs, i, &m);
        if (rc)
            return rc;
    }
    *nr_leaves = want_leaves ? p->count : CPUID_MAX_LEAVES;
    *nr_msrs = ARRAY_SIZE(policy_msrs);
    return 0;
}

/* The feature words in the order of xen/arch-x86/cpufeatureset.h; words 16 and 17 are an MSR's. */
#define NO_LEAF (~0u)
static const struct {
    uint32_t leaf, sub;
    uint8_t reg;
} featureset[] = {
    {1, 0, 3}, {1, 0, 2},          {0x80000001, 0, 3}, {0x80000001, 0, 2}, {0xd, 1, 0},
    {7, 0, 1}, {7, 0, 2},          {0x80000007, 0, 3}, {0x80000008, 0, 1}, {7, 0, 3},
    {7, 1, 0}, {0x80000021, 0, 0}, {7, 1, 1},          {7, 2, 3},          {7, 1, 2},
    {7, 1, 3}, {NO_LEAF, 0, 0},    {NO_LEAF, 0, 0},    {0x80000021, 0, 2},
};

unsigned cpuid_policy_featureset(const struct cpuid_policy *p, uint32_t *words, unsigned max)
{
    unsigned n = min(max, (unsigned)ARRAY_SIZE(featureset));
    for (unsigned i = 0; i < n; i++) {
        const struct xen_cpuid_leaf *l = find(p, featureset[i].leaf, featureset[i].sub);
        const uint32_t regs[4] = {l ? l->a : 0, l ? l->b : 0, l ? l->c : 0, l ? l->d : 0};
        words[i] = regs[featureset[i].reg];
    }
    return ARRAY_SIZE(featureset);
}
