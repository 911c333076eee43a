/*
 * Each CPU's own things: struct cpu and TSS (one page), GDT page, interrupt stacks.
 *
 * CPU 0 begins with static ones, on one interrupt stack for everything, and gets the same as the
 * others once there is memory. The rest is allocated by cpu_alloc() before the CPU is started, and
 * is its for ever.
 */
#include "console/console.h"
#include "cpu/internal.h"
#include "mm/mm.h"

struct cpu_area {
    struct cpu cpu;
    struct tss64 tss __aligned(128); /* within a page: the CPU reads it by physical address */
};
_Static_assert(sizeof(struct cpu_area) <= PAGE_SIZE, "one page");

static struct tss64 boot_tss __aligned(128);
static uint64_t boot_gdt[512] __aligned(PAGE_SIZE);
static uint8_t boot_ist_stack[STACK_SIZE] __initdata __aligned(STACK_SIZE);

struct cpu boot_cpu = {
    .self = &boot_cpu,
    .online = true,
    .tss = &boot_tss,
    .gdt = boot_gdt,
};
struct cpu *cpus[MAX_CPUS] = {&boot_cpu};
unsigned cpus_present = 1;
struct cpu_mask cpus_online = {{1}};

static struct stack_top *top_of(void *stack)
{
    return (struct stack_top *)((uint8_t *)stack + STACK_SIZE) - 1;
}

static void set_ist(struct cpu *c, unsigned ist, void *stack)
{
    top_of(stack)->cpu = c;
    c->tss->ist[ist - 1] = (uint64_t)&top_of(stack)->regs.es;
}

/* A mapped stack with unmapped pages around it; aligned, as ranges of vmap of 2 pages are. */
static void *alloc_stack(void)
{
    struct page *page = page_alloc(1, ALLOC_ZERO);
    void *va = page ? vmap_contiguous(page_to_mfn(page), STACK_SIZE / PAGE_SIZE, MAP_RW) : NULL;
    if (va && (uint64_t)va % STACK_SIZE)
        panic("vmap gave an unaligned stack");
    if (!va && page)
        page_free(page, 1);
    return va;
}

/* GDT page and interrupt stacks. What was allocated before a failure stays: there is no memory to
 * go on with anyway. */
static bool alloc_tables(struct cpu *c)
{
    uint64_t *gdt = xpage_alloc();
    if (!gdt)
        return false;
    for (unsigned ist = 1; ist <= IST_COUNT; ist++) {
        void *stack = alloc_stack();
        if (!stack)
            return false;
        set_ist(c, ist, stack);
    }
    desc_fill_gdt(gdt, c->tss);
    c->gdt = gdt;
    c->gdt_mfn = virt_to_mfn(gdt);
    return true;
}

struct cpu *cpu_alloc(unsigned id, uint32_t apic_id, uint32_t acpi_id)
{
    struct cpu_area *a = xpage_alloc();
    if (!a)
        return NULL;
    struct cpu *c = &a->cpu;
    c->self = c;
    c->id = id;
    c->apic_id = apic_id;
    c->acpi_id = acpi_id;
    c->tss = &a->tss;
    c->tss->iomap = sizeof(*c->tss);
    c->loaded_cr3 = host_l4_mfn;
    return alloc_tables(c) ? c : NULL;
}

void __init cpu_init_boot(void)
{
    stack_top()->cpu = &boot_cpu;
    for (unsigned ist = 1; ist <= IST_COUNT; ist++)
        set_ist(&boot_cpu, ist, boot_ist_stack);
    boot_tss.iomap = sizeof(boot_tss);
    desc_fill_gdt(boot_gdt, &boot_tss);
    desc_init_idt();
    desc_load(&boot_cpu);
    features_init();
    features_init_cpu();
}

void __init cpu_init_late(void)
{
    if (!alloc_tables(&boot_cpu))
        panic("no memory for CPU 0's stacks");
    desc_load(&boot_cpu);
}

void cpu_init_secondary(struct cpu *c)
{
    stack_top()->cpu = c;
    desc_load(c);
    features_init_cpu();
}

void cpu_set_entry_stack(struct stack_top *top)
{
    struct cpu *c = this_cpu();
    uint64_t rsp = (uint64_t)&top->regs.es;
    c->tss->rsp[0] = rsp;
    if (c->entry_rsp)
        *c->entry_rsp = rsp;
}
