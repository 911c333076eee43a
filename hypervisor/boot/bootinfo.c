/*
 * First C code: one struct for whatever loader started us, and which memory is spoken for.
 *
 * Reserved ranges are few (low memory, image, modules) and are kept sorted and merged, so that the
 * allocator can walk them beside the memory map. All is final before main() runs.
 */
#include "boot/bootinfo.h"
#include "boot/internal.h"
#include "console/console.h"
#include "cpu/asm.h"
#include "lib/stack_guard.h"
#include "lib/string.h"
#include "mm/mm.h"

extern char __image_end[], __init_start[], __init_end[];
int main(void);

struct bootinfo bootinfo;

#define LOW_MEMORY   (1UL << 20)
#define MAX_RESERVED (BOOT_MAX_MODULES + 2)

static struct {
    uint64_t start, end;
} reserved[MAX_RESERVED];
static unsigned reserved_count;

static struct raw_map raw __initdata;

static uint64_t image_maddr(const void *p)
{
    return (uint64_t)p - IMAGE_VIRT;
}

/* Insertion keeps the order; what overlaps or touches is merged. */
static void reserve(uint64_t start, uint64_t end)
{
    start = ROUND_DOWN(start, PAGE_SIZE);
    end = ROUND_UP(end, PAGE_SIZE);
    unsigned i = 0, j;
    while (i < reserved_count && reserved[i].end < start)
        i++;
    for (j = i; j < reserved_count && reserved[j].start <= end; j++) {
        start = min(start, reserved[j].start);
        end = max(end, reserved[j].end);
    }
    memmove(&reserved[i + 1], &reserved[j], (reserved_count - j) * sizeof(reserved[0]));
    reserved_count = reserved_count - (j - i) + 1;
    reserved[i].start = start;
    reserved[i].end = end;
}

static void reserve_all(void)
{
    reserved_count = 0;
    reserve(0, LOW_MEMORY);
    reserve(IMAGE_PHYS, image_maddr(__image_end));
    for (unsigned i = 0; i < bootinfo.modules; i++) {
        const struct boot_module *m = &bootinfo.module[i];
        if (m->size)
            reserve(m->start.a, m->start.a + m->size);
    }
}

bool bootinfo_next_reserved(unsigned *i, maddr_t *start, uint64_t *size)
{
    if (*i >= reserved_count)
        return false;
    *start = maddr(reserved[*i].start);
    *size = reserved[*i].end - reserved[*i].start;
    ++*i;
    return true;
}

void bootinfo_limit_ram(uint64_t limit)
{
    if (limit)
        e820_limit(&bootinfo, limit);
}

/* Whole pages of [start, end) that the map calls RAM. */
static void release(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < bootinfo.ranges; i++) {
        const struct e820_range *r = &bootinfo.map[i];
        uint64_t from = max(start, r->base), to = min(end, r->base + r->size);
        if (r->type == E820_RAM && from < to)
            buddy_add_range(maddr_to_mfn(maddr(from)), (to - from) >> PAGE_SHIFT);
    }
}

void bootinfo_release(void)
{
    uint64_t init_start = image_maddr(__init_start), init_end = image_maddr(__init_end);
    uint64_t image_end = image_maddr(__image_end), modules = 0;
    release(init_start, init_end);

    /* What is reserved beyond low memory and image are the modules. */
    for (unsigned i = 0; i < reserved_count; i++) {
        uint64_t start = max(reserved[i].start, LOW_MEMORY), end = reserved[i].end;
        if (start < end && start < IMAGE_PHYS) {
            release(start, min(end, (uint64_t)IMAGE_PHYS));
            modules += min(end, (uint64_t)IMAGE_PHYS) - start;
        }
        if (end > image_end && max(start, image_end) < end) {
            release(max(start, image_end), end);
            modules += end - max(start, image_end);
        }
    }
    log_info("given back: %lu KiB of start-up code, %lu KiB of modules",
             (init_end - init_start) >> 10, modules >> 10);
}

/* To memory from the allocator, which ends where the module does. False: there is none. */
static bool move_module(struct boot_module *m)
{
    unsigned order = page_order(m->size);
    struct page *to = page_alloc(order, 0);
    if (!to)
        return false;
    uint64_t used = ROUND_UP(m->size, PAGE_SIZE) >> PAGE_SHIFT;
    memcpy(page_to_virt(to), maddr_to_virt(m->start), m->size);
    buddy_add_range(mfn(page_to_mfn(to).n + used), (1UL << order) - used);
    m->start = mfn_to_maddr(page_to_mfn(to));
    return true;
}

bool bootinfo_move_modules(void)
{
    for (unsigned i = 0; i < bootinfo.modules; i++) {
        struct boot_module *m = &bootinfo.module[i];
        uint64_t start = ROUND_DOWN(m->start.a, PAGE_SIZE);
        uint64_t end = ROUND_UP(m->start.a + m->size, PAGE_SIZE);
        bool shared = false; /* a page of which with another */
        for (unsigned j = 0; j < bootinfo.modules; j++)
            shared |= j != i && bootinfo.module[j].start.a < end &&
                      bootinfo.module[j].start.a + bootinfo.module[j].size > start;
        if (!m->size || shared)
            continue;
        if (!move_module(m))
            return false;
        release(start, end);
    }
    reserve_all();
    return true;
}

__init void bootinfo_report(void)
{
    static const char *const name[] = {
        [E820_RAM] = "RAM",      [E820_RESERVED] = "reserved", [E820_ACPI] = "ACPI tables",
        [E820_NVS] = "ACPI NVS", [E820_UNUSABLE] = "unusable",
    };
    log_info("started by %s with \"%s\", %u modules", bootinfo.loader, bootinfo.cmdline,
             bootinfo.modules);
    for (unsigned i = 0; i < bootinfo.ranges; i++)
        log_debug("memory 0x%012lx-0x%012lx %s", bootinfo.map[i].base,
                  bootinfo.map[i].base + bootinfo.map[i].size - 1, name[bootinfo.map[i].type]);
    for (unsigned i = 0; i < bootinfo.modules; i++)
        log_debug("module %u at 0x%lx, %lu bytes: %s", i, bootinfo.module[i].start.a,
                  bootinfo.module[i].size, bootinfo.module[i].cmdline);
}

/*
 * Never returns, so it alone may change the stack guard. RDTSC is all that every CPU has; RDRAND
 * (CPUID leaf 1, ECX bit 30) is better.
 */
static __always_inline void set_stack_guard(void)
{
    uint32_t r[4];
    uint64_t v = rdtsc() * 0x9e3779b97f4a7c15UL, more = 0;
    cpuid(1, 0, r);
    if (r[2] & 1u << 30)
        __asm__ volatile("rdrand %0" : "=r"(more)::"cc");
    __stack_chk_guard ^= (v ^ v >> 29 ^ more) << 8;
}

__init void boot_start(uint32_t magic, uint32_t info)
{
    set_stack_guard();
    if (magic == MULTIBOOT1_MAGIC) {
        multiboot1_read(&bootinfo, &raw, info);
    } else if (magic == MULTIBOOT2_MAGIC) {
        multiboot2_read(&bootinfo, &raw, info);
    } else {
        console_init_early();
        panic("started by a loader that is not multiboot (EAX is 0x%x)", magic);
    }
    e820_sanitise(&bootinfo, &raw);

    for (unsigned i = 0; i < bootinfo.modules; i++) {
        const struct boot_module *m = &bootinfo.module[i];
        if (m->size && m->start.a < image_maddr(__image_end) && m->start.a + m->size > IMAGE_PHYS)
            log_error("module %u was loaded over the hypervisor", i);
    }
    reserve_all();
    main();
    __builtin_unreachable();
}
