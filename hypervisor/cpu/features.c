/*
 * What this machine's CPUs can do (CPUID: APM vol. 3 appendix E, Intel SDM vol. 2), found once on
 * CPU 0, and the control registers that follow from it, set alike on every CPU.
 *
 * CR4.PGE stays off: no page of anybody's is global, so that loading CR3 flushes all there is.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "cpu/internal.h"
#include "lib/string.h"

/* Memory types as the PV ABI fixes them for guests' page tables: WB WT UC- UC WC WP UC UC. */
#define PAT_VALUE   0x0000050100070406UL

#define FXSAVE_SIZE 512

struct cpu_features cpu_features __ro_after_init;

/* These do not fault although a CPU may lack them: only used when CPUID says so. */
static void xsetbv(uint64_t v)
{
    __asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static bool bit(uint32_t word, unsigned n)
{
    return word >> n & 1;
}

static __init void find_model(void)
{
    struct cpu_features *f = &cpu_features;
    uint32_t r[4];
    char vendor[13] = {0};
    cpuid(0, 0, r);
    memcpy(vendor, &r[1], 4);
    memcpy(vendor + 4, &r[3], 4);
    memcpy(vendor + 8, &r[2], 4);
    f->amd = !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine");
    cpuid(1, 0, r);
    f->family = r[0] >> 8 & 15;
    f->model = r[0] >> 4 & 15;
    if (f->family == 15 || (f->family == 6 && !f->amd))
        f->model |= r[0] >> 12 & 0xf0;
    if (f->family == 15)
        f->family += r[0] >> 20 & 0xff;
    log_info("CPU: %s family %u model %u", vendor, f->family, f->model);
}

/* The state components that guests may have: those whose size we know how to keep. */
static __init void find_xsave(void)
{
    struct cpu_features *f = &cpu_features;
    uint32_t r[4];
    f->xsave_size = FXSAVE_SIZE;
    f->xcr0_mask = XCR0_X87 | XCR0_SSE;
    if (!f->xsave)
        return;
    cpuid(0xd, 0, r);
    uint64_t has = (uint64_t)r[3] << 32 | r[0];
    if (has & XCR0_AVX)
        f->xcr0_mask |= XCR0_AVX;
    if ((has & XCR0_AVX) && (has & XCR0_AVX512) == XCR0_AVX512)
        f->xcr0_mask |= XCR0_AVX512;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    xsetbv(f->xcr0_mask);
    cpuid(0xd, 0, r); /* EBX: bytes for what XCR0 enables now */
    f->xsave_size = r[1];
}

/* Leaf 0xb, or the count of logical processors per package (CPUID leaf 1, EBX and HTT). */
static __init void find_topology(uint32_t max_leaf)
{
    enum { SMT = 1, CORE = 2 };
    struct cpu_features *f = &cpu_features;
    uint32_t r[4];
    cpuid(1, 0, r);
    if (bit(r[3], 28))
        while (1u << f->package_bits < (r[1] >> 16 & 0xff))
            f->package_bits++;
    for (unsigned level = 0; max_leaf >= 0xb && level < 2; level++) {
        cpuid(0xb, level, r);
        unsigned type = r[2] >> 8 & 0xff;
        if (type == SMT)
            f->smt_bits = r[0] & 31;
        if (type == CORE)
            f->package_bits = r[0] & 31;
    }
}

/* The text is still writable: mm_init() comes later. */
static __init void patch_smap_sites(void)
{
    extern const struct smap_site {
        uint8_t *at;
        uint64_t open;
    } __smap_sites_start[], __smap_sites_end[];
    for (const struct smap_site *s = __smap_sites_start; s < __smap_sites_end; s++)
        memcpy(s->at, s->open ? "\x0f\x01\xcb" : "\x0f\x01\xca", 3); /* STAC, CLAC */
}

void __init features_init(void)
{
    struct cpu_features *f = &cpu_features;
    uint32_t r[4], max_leaf, max_ext;
    find_model();
    cpuid(0, 0, r);
    max_leaf = r[0];
    cpuid(1, 0, r);
    f->x2apic = bit(r[2], 21);
    f->pcid = bit(r[2], 17);
    f->xsave = bit(r[2], 26) && max_leaf >= 0xd;
    f->pge = bit(r[3], 13);
    if (max_leaf >= 7) {
        cpuid(7, 0, r);
        f->fsgsbase = bit(r[1], 0);
        f->smep = bit(r[1], 7) && !boot_options.no_smep;
        f->erms = bit(r[1], 9);
        f->smap = bit(r[1], 20) && !boot_options.no_smap;
        f->umip = bit(r[2], 2);
        f->pku = bit(r[2], 3);
    }
    cpuid(0x80000000, 0, r);
    max_ext = r[0];
    cpuid(0x80000001, 0, r);
    f->nx = bit(r[3], 20);
    f->page1gb = bit(r[3], 26);
    f->rdtscp = bit(r[3], 27);
    f->phys_bits = 36;
    if (max_ext >= 0x80000007) {
        cpuid(0x80000007, 0, r);
        f->invtsc = bit(r[3], 8);
    }
    if (max_ext >= 0x80000008) {
        cpuid(0x80000008, 0, r);
        f->phys_bits = min(r[0] & 0xff, 52u);
    }
    find_topology(max_leaf);
    find_xsave();
    if (f->smap)
        patch_smap_sites();
    log_info("CPU:%s%s%s%s%s%s%s%s, %u physical address bits, XCR0 %lx", f->nx ? " nx" : "",
             f->smep ? " smep" : "", f->smap ? " smap" : "", f->umip ? " umip" : "",
             f->fsgsbase ? " fsgsbase" : "", f->xsave ? " xsave" : "", f->x2apic ? " x2apic" : "",
             f->invtsc ? " invtsc" : "", f->phys_bits, f->xcr0_mask);
}

/* Memory types may change only with empty caches and TLB (APM vol. 2 section 7.8.2). */
static void set_pat(void)
{
    __asm__ volatile("wbinvd" ::: "memory");
    wrmsr(MSR_PAT, PAT_VALUE);
    __asm__ volatile("wbinvd" ::: "memory");
    write_cr3(read_cr3());
}

void features_init_cpu(void)
{
    const struct cpu_features *f = &cpu_features;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | (f->nx ? EFER_NXE : 0));
    write_cr0(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG);
    uint64_t cr4 = CR4_PAE | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT | (read_cr4() & CR4_MCE);
    if (f->umip)
        cr4 |= CR4_UMIP;
    if (f->fsgsbase)
        cr4 |= CR4_FSGSBASE;
    if (f->xsave)
        cr4 |= CR4_OSXSAVE;
    if (f->smep)
        cr4 |= CR4_SMEP;
    if (f->smap)
        cr4 |= CR4_SMAP;
    write_cr4(cr4);
    if (f->xsave)
        xsetbv(f->xcr0_mask);
    if (f->smap)
        __asm__ volatile("clac" ::: "memory");
    set_pat();
    mce_init_cpu();
}
