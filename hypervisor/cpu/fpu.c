/*
 * FPU, SSE and AVX state of vCPUs. Never lazy: saved and loaded whole when the loaded vCPU changes.
 *
 * With XSAVE the area is in the standard form: FXSAVE64's 512 bytes, a header of 64 (XSTATE_BV,
 * XCOMP_BV = 0, zeros), then AVX and beyond. Everything is saved and loaded under the full
 * xcr0_mask, whatever XCR0 the guest has chosen, so that a component which it has switched off for
 * a while survives and never shows another vCPU's contents. A component whose XSTATE_BV bit is
 * clear is loaded as its initial state; MXCSR alone is always loaded from the area (Intel SDM
 * vol. 1 section 13.8.1), so it is valid there from the start.
 *
 * CR0.TS is the guest's choice (fpu_taskswitch); both directions lift it and put it back.
 */
#include "cpu/cpu.h"
#include "lib/string.h"
#include "mm/mm.h"

#define FCW_INITIAL        0x037f
#define MXCSR_INITIAL      0x1f80
#define MXCSR_DEFAULT_MASK 0xffbf /* when FXSAVE stores a mask of 0 (APM vol. 2 section 11.5) */
#define FSW_ES             (1u << 7)

struct xsave_area {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved0;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t registers[480];
    uint64_t xstate_bv, xcomp_bv;
    uint64_t reserved1[6];
} __aligned(64);
_Static_assert(offsetof(struct xsave_area, xstate_bv) == 512, "Intel SDM vol. 1 section 13.4.2");

#define LEGACY_SIZE 512

static unsigned area_order(void)
{
    unsigned order = 0;
    while (PAGE_SIZE << order < max(cpu_features.xsave_size, (unsigned)sizeof(struct xsave_area)))
        order++;
    return order;
}

void *fpu_alloc(void)
{
    struct page *page = page_alloc(area_order(), ALLOC_ZERO);
    if (!page)
        return NULL;
    struct xsave_area *a = page_to_virt(page);
    a->fcw = FCW_INITIAL;
    a->mxcsr = MXCSR_INITIAL;
    return a;
}

void fpu_free(void *area)
{
    if (area)
        page_free(virt_to_page(area), area_order());
}

static uint64_t xgetbv(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static void xsetbv(uint64_t v)
{
    __asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

void fpu_set_xcr0(uint64_t xcr0)
{
    if (cpu_features.xsave && xgetbv() != xcr0)
        xsetbv(xcr0);
}

uint64_t fpu_get_xcr0(void)
{
    return cpu_features.xsave ? xgetbv() : 0;
}

static uint64_t lift_ts(void)
{
    uint64_t cr0 = read_cr0();
    if (cr0 & CR0_TS)
        __asm__ volatile("clts" ::: "memory");
    return cr0;
}

static void put_ts_back(uint64_t cr0)
{
    if (cr0 & CR0_TS)
        write_cr0(cr0);
}

void fpu_save(void *area)
{
    uint64_t cr0 = lift_ts();
    if (cpu_features.xsave) {
        uint64_t mask = cpu_features.xcr0_mask;
        fpu_set_xcr0(mask);
        __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((uint32_t)mask),
                         "d"((uint32_t)(mask >> 32))
                         : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
    }
    put_ts_back(cr0);
}

/* False when the CPU refused the contents. */
static bool load(const void *area)
{
    int ok = 0;
    if (cpu_features.xsave) {
        uint64_t mask = cpu_features.xcr0_mask;
        __asm__ volatile("1: xrstor64 (%1)\n"
                         "mov $1, %0\n"
                         "2:\n" EXTABLE("1b", "2b")
                         : "+r"(ok)
                         : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                         : "memory");
    } else {
        __asm__ volatile("1: fxrstor64 (%1)\n"
                         "mov $1, %0\n"
                         "2:\n" EXTABLE("1b", "2b")
                         : "+r"(ok)
                         : "r"(area)
                         : "memory");
    }
    return ok;
}

/*
 * AMD's FXRSTOR and XRSTOR leave the last instruction's and operand's addresses alone unless an
 * exception is pending (APM vol. 2 section 11.4.4), so the previous vCPU's would remain readable:
 * an operation of our own overwrites them.
 */
static void forget_x87_pointers(void)
{
    static const uint32_t zero;
    uint16_t status;
    __asm__ volatile("fnstsw %0" : "=a"(status));
    if (status & FSW_ES)
        __asm__ volatile("fnclex");
    __asm__ volatile("emms\n\tfildl %0" ::"m"(zero));
}

void fpu_restore(const void *area, uint64_t xcr0)
{
    static const struct xsave_area initial = {.fcw = FCW_INITIAL, .mxcsr = MXCSR_INITIAL};
    const struct xsave_area *a = area;
    uint64_t cr0 = lift_ts();
    if (cpu_features.xsave)
        fpu_set_xcr0(cpu_features.xcr0_mask);
    if (cpu_features.amd && !(a->fsw & FSW_ES))
        forget_x87_pointers();
    if (!load(area))
        (void)load(&initial);
    if (cpu_features.xsave)
        fpu_set_xcr0(xcr0);
    put_ts_back(cr0);
}

void fpu_set_legacy(void *area, const void *fxsave)
{
    struct xsave_area *a = area;
    static uint32_t mask; /* [a] what MXCSR may have on this machine; found at the first call */
    if (!mask) {
        struct xsave_area now = {0};
        uint64_t cr0 = lift_ts();
        __asm__ volatile("fxsave64 (%0)" ::"r"(&now) : "memory");
        put_ts_back(cr0);
        mask = now.mxcsr_mask ? now.mxcsr_mask : MXCSR_DEFAULT_MASK;
    }
    memset(area, 0, cpu_features.xsave_size);
    memcpy(area, fxsave, LEGACY_SIZE);
    a->mxcsr &= mask;
    if (cpu_features.xsave)
        a->xstate_bv = 3; /* x87 and SSE */
}

bool fpu_state_is_valid(const void *area, size_t n, uint64_t components)
{
    uint64_t header[8]; /* XSTATE_BV, and what is to be 0 */
    if (n < sizeof(struct xsave_area))
        return false;
    memcpy(header, (const uint8_t *)area + LEGACY_SIZE, sizeof(header));
    for (unsigned i = 1; i < ARRAY_SIZE(header); i++)
        if (header[i])
            return false;
    return !(header[0] & ~components);
}

void fpu_get_legacy(const void *area, void *fxsave)
{
    memcpy(fxsave, area, LEGACY_SIZE);
}
