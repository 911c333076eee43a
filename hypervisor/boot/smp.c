/*
 * The other CPUs, one after the other: INIT, start-up IPI, and the code of trampoline.S in a page
 * of RAM below 1 MiB (Intel MultiProcessor Specification 1.4 appendix B.4; Intel SDM vol. 3
 * section 9.4).
 *
 * Hand-over: smp_next_stack holds the stack for the one CPU being started; who takes it (an atomic
 * exchange with 0) is that CPU. One that does not answer in time is reported and left out, and
 * should it come later it finds no stack and sleeps.
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "cpu/cpu.h"
#include "domain/domain.h"
#include "irq/irq.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "hvm/hvm.h"
#include "pv/pv.h"
#include "sched/sched.h"
#include "time/time.h"

#define ANSWER_TIME SECONDS(1)
#define READY_TIME  SECONDS(20) /* an emulated CPU may be slow, but it has answered */
#define STACK_ORDER 1

extern uint8_t smp_trampoline[], smp_trampoline_end[], smp_trampoline_long[];
extern uint8_t smp_trampoline_gdt[], smp_trampoline_gdtr[], smp_trampoline_far[];
extern uint8_t smp_trampoline_efer[];

extern uint64_t smp_next_stack; /* what the starting CPU's RSP becomes, 0 = nobody is awaited */
uint64_t smp_next_stack;
void smp_secondary(void) __noreturn;

/*
 * First C code of a secondary CPU, on the stack that start() prepared. Not __init: CPU 0 may give
 * that memory back before this one has left here.
 */
void smp_secondary(void)
{
    struct cpu *c = this_cpu();
    cpu_init_secondary(c);
    lapic_init();
    time_init_cpu();
    sched_init_cpu(c);
    pv_init_cpu();
    hvm_init_cpu();
    /* From here on it is interrupted, scheduled on and flushed like any other. */
    WRITE_ONCE(c->online, true);
    atomic_bit_set(cpus_online.bits, c->id);
    sched_start();
}

/* A page of RAM that start-up IPIs can name: the last one below 640 KiB less EBDA. 0: none. */
static __init uint64_t find_low_page(void)
{
    const uint64_t limit = 0x9f000;
    for (unsigned i = bootinfo.ranges; i-- > 0;) {
        const struct e820_range *r = &bootinfo.map[i];
        uint64_t end = min(r->base + r->size, limit);
        if (r->type == E820_RAM && end > r->base && end - r->base >= PAGE_SIZE && end > PAGE_SIZE)
            return end - PAGE_SIZE;
    }
    return 0;
}

static __init void patch(uint8_t *page, const uint8_t *where, uint64_t value, size_t size)
{
    memcpy(page + (where - smp_trampoline), &value, size);
}

static __init void install_trampoline(uint64_t at)
{
    uint8_t *page = maddr_to_virt(maddr(at));
    memcpy(page, smp_trampoline, (size_t)(smp_trampoline_end - smp_trampoline));
    patch(page, smp_trampoline_far, at + (uint64_t)(smp_trampoline_long - smp_trampoline), 4);
    patch(page, smp_trampoline_gdtr + 2, at + (uint64_t)(smp_trampoline_gdt - smp_trampoline), 4);
    patch(page, smp_trampoline_efer, EFER_LME | (cpu_features.nx ? EFER_NXE : 0), 8);
}

static __init bool wait_for(bool (*done)(const struct cpu *c), const struct cpu *c, ns_t limit)
{
    ns_t end = time_now() + limit;
    while (!done(c)) {
        if (time_now() >= end)
            return done(c);
        spin_poll();
        cpu_pause();
    }
    return true;
}

static bool has_taken_stack(const struct cpu *c __unused)
{
    return !__atomic_load_n(&smp_next_stack, __ATOMIC_ACQUIRE);
}

static bool is_online(const struct cpu *c)
{
    return bit_test(cpus_online.bits, c->id);
}

/*
 * Its interrupts are off until it idles, on a stack of its own: the first one shows that it has
 * left the one it started on, at whose far end the request lies.
 */
static void free_stack(struct grace *g)
{
    page_free(virt_to_page(g), STACK_ORDER);
}

static __init bool start(struct cpu *c, uint64_t trampoline)
{
    struct page *stack = page_alloc(STACK_ORDER, ALLOC_ZERO);
    if (!stack) {
        log_error("CPU %u: no memory for its stack", c->id);
        return false;
    }
    struct stack_top *top = (struct stack_top *)((char *)page_to_virt(stack) + STACK_SIZE) - 1;
    top->cpu = c;
    __atomic_store_n(&smp_next_stack, (uint64_t)top & ~15UL, __ATOMIC_RELEASE);

    lapic_send_init(c->apic_id);
    time_busy_wait(MILLISECONDS(10));
    for (int attempt = 0; attempt < 2 && !has_taken_stack(c); attempt++) {
        lapic_send_startup(c->apic_id, (uint8_t)(trampoline >> PAGE_SHIFT));
        time_busy_wait(MICROSECONDS(200));
    }
    if (!wait_for(has_taken_stack, c, ANSWER_TIME) &&
        __atomic_exchange_n(&smp_next_stack, 0, __ATOMIC_ACQ_REL)) {
        log_error("CPU %u (APIC %u) does not answer: left out", c->id, c->apic_id);
        lapic_send_init(c->apic_id); /* whatever it does, it stops doing it */
        page_free(stack, STACK_ORDER);
        return false;
    }
    if (!wait_for(is_online, c, READY_TIME))
        panic("CPU %u (APIC %u) started but does not get ready", c->id, c->apic_id);
    grace_call(page_to_virt(stack), free_stack);
    return true;
}

void smp_start_cpus(void)
{
    unsigned wanted = boot_options.maxcpus ? boot_options.maxcpus : MAX_CPUS;
    unsigned next = 1, unreachable = 0, beyond = 0;
    uint32_t self = lapic_id();
    uint64_t trampoline = find_low_page();

    for (unsigned i = 0; i < acpi_info.cpus; i++) {
        const struct acpi_cpu *a = &acpi_info.cpu[i];
        if (!a->enabled || a->apic_id == self)
            continue;
        if (next >= wanted || next >= MAX_CPUS) {
            beyond++;
            continue;
        }
        if (!trampoline || (a->apic_id > 254 && !lapic_is_x2apic())) {
            unreachable++;
            continue;
        }
        if (next == 1)
            install_trampoline(trampoline);
        struct cpu *c = cpu_alloc(next, a->apic_id, a->acpi_id);
        if (!c) {
            log_error("no memory for CPU %u (APIC %u)", next, a->apic_id);
            break;
        }
        cpus[next] = c;
        cpus_present = next + 1;
        if (start(c, trampoline)) {
            next++;
        } else {
            cpus[next] = NULL;
            cpus_present = next;
        }
    }
    if (unreachable)
        log_error("%u CPUs cannot be started: %s", unreachable,
                  trampoline ? "their APIC numbers need x2APIC" : "no RAM below 640 KiB");
    log_info("%u CPU%s running%s", next, next == 1 ? "" : "s", beyond ? ", as maxcpus= wants" : "");
}
