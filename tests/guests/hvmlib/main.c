/*
 * PVH test kernels: start of day, traps and interrupts by an IDT of their own, second CPUs, events
 * by the callback vector.
 */
#include "hvm.h"

struct hvm_start_info *hvm_info;
struct start_info *start_info; /* PV's: none here */
extern struct hvm_start_info *start_info_at;
extern char idt_stubs[], ap_start[], ap_start_end[];
static uint8_t stacks[8][STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
uint8_t cpu0_stack[STACK_SIZE] __attribute__((aligned(STACK_SIZE)));
uint64_t ap_stack;
static union {
    struct shared_info info;
    uint8_t page[PAGE_SIZE];
} shared_page __attribute__((aligned(4096)));

/* --- what lib/print.c and lib/check.c ask --- */

bool is_dom0(void)
{
    return hvm_info->flags & SIF_INITDOMAIN;
}

void *window_map(uint64_t mfn, uint64_t flags)
{
    (void)mfn, (void)flags;
    return NULL;
}

bool has_argument(const char *word)
{
    const char *at = (const char *)hvm_info->cmdline_paddr;
    size_t n = strlen(word);

    for (; at && *at; at++)
        if (!strncmp(at, word, n))
            return true;
    return false;
}

_Noreturn void shut_down(unsigned reason)
{
    struct sched_shutdown arg = {.reason = reason};

    for (;;)
        HC(sched_op, SCHEDOP_shutdown, &arg);
}

_Noreturn void test_finish(void)
{
    print("Test result: %u passed, %u failed\n", checks_passed, checks_failed);
    shut_down(SHUTDOWN_poweroff);
}

/* --- traps and interrupts --- */

struct fixup {
    uint64_t from, to;
};
extern struct fixup extable[], extable_end[];
static trap_hook_t *hooks[256];
static struct gate {
    uint16_t low, selector, flags, middle;
    uint32_t high, zero;
} idt[256] __attribute__((aligned(16)));
void trap_dispatch(struct regs *r);

void trap_set_hook(unsigned vector, trap_hook_t *hook)
{
    hooks[vector] = hook;
}

void trap_forget(void)
{
    memset(&this_cpu()->trap, 0, sizeof(struct trap));
}

void trap_dispatch(struct regs *r)
{
    struct cpu *cpu = this_cpu();
    uint64_t cr2;

    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    if (hooks[r->vector] && hooks[r->vector](r))
        return;
    for (struct fixup *f = extable; f < extable_end; f++)
        if (f->from == r->rip) {
            cpu->trap.count++;
            cpu->trap.vector = (unsigned)r->vector;
            cpu->trap.error = r->error;
            cpu->trap.regs = *r;
            cpu->trap.cr2 = cr2;
            r->rip = f->to;
            return;
        }
    print(
        "FAIL CPU %u: unexpected trap %lu error 0x%lx at 0x%lx rflags 0x%lx rsp 0x%lx cr2 0x%lx\n",
        cpu->id, r->vector, r->error, r->rip, r->rflags, r->rsp, cr2);
    checks_failed++;
    test_finish();
}

static void idt_load(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) p = {sizeof(idt) - 1, (uint64_t)idt};

    asm volatile("lidt %0" ::"m"(p));
}

static void idt_init(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t at = (uint64_t)idt_stubs + i * 32;

        idt[i] =
            (struct gate){(uint16_t)at, 8, 0x8e00, (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0};
    }
    idt_load();
}

bool try_rdmsr(uint32_t msr, uint64_t *v)
{
    uint32_t lo = 0, hi = 0;

    TRY("rdmsr", : "+a"(lo), "+d"(hi) : "c"(msr));
    *v = (uint64_t)hi << 32 | lo;
    return !trapped();
}

bool try_wrmsr(uint32_t msr, uint64_t v)
{
    TRY("wrmsr", ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
    return !trapped();
}

/* --- events --- */

volatile unsigned event_count[4096];

struct shared_info *shared(void)
{
    return &shared_page.info;
}

struct vcpu_info *vcpu_info(unsigned id)
{
    return &shared_page.info.vcpu_info[id];
}

static bool upcall(struct regs *r)
{
    struct vcpu_info *info = vcpu_info(this_cpu()->id);

    (void)r;
    this_cpu()->upcalls++;
    __atomic_store_n(&info->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    uint64_t words = __atomic_exchange_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    while (words) {
        unsigned w = (unsigned)__builtin_ctzl(words);
        uint64_t ports = __atomic_exchange_n(&shared()->evtchn_pending[w], 0, __ATOMIC_SEQ_CST);

        words &= words - 1;
        for (; ports; ports &= ports - 1)
            event_count[w * 64 + (unsigned)__builtin_ctzl(ports)]++;
    }
    return true;
}

long hvm_param(unsigned op, unsigned index, uint64_t *value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index, .value = *value};
    long rc = HC(hvm_op, op, &p);

    *value = p.value;
    return rc;
}

long callback_on(void)
{
    uint64_t v = (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | VECTOR_CALLBACK;

    trap_set_hook(VECTOR_CALLBACK, upcall);
    return hvm_param(HVMOP_set_param, HVM_PARAM_CALLBACK_IRQ, &v);
}

uint64_t ns_now(void)
{
    volatile struct vcpu_time_info *t = &vcpu_info(this_cpu()->id)->time;

    for (;;) {
        uint32_t version = t->version;
        uint64_t delta, ns;

        asm volatile("" ::: "memory");
        delta = rdtsc() - t->tsc_timestamp;
        delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
        ns = t->system_time + (uint64_t)(((unsigned __int128)delta * t->tsc_to_system_mul) >> 32);
        asm volatile("" ::: "memory");
        if (!(version & 1) && version == t->version)
            return ns;
    }
}

/* --- second CPUs --- */

struct cpu *cpu_get(unsigned id)
{
    return (struct cpu *)(id ? stacks[id - 1] : cpu0_stack);
}

void apic_on(void)
{
    *apic(0xf0) = 0x1ff;
}

void apic_ipi(uint32_t id, uint32_t low)
{
    *apic(0x310) = id << 24;
    *apic(0x300) = low;
}

_Noreturn void ap_main(void);
_Noreturn void ap_main(void)
{
    struct cpu *cpu = this_cpu();

    idt_load();
    cpu->running = true;
    cpu->entry(cpu->entry_arg);
    cpu->done = true;
    for (;;)
        asm volatile("cli; hlt");
}

bool ap_run(unsigned n, void (*fn)(void *), void *arg)
{
    struct cpu *cpu = cpu_get(n);
    uint64_t end = ns_now() + 2000000000;

    memset(cpu, 0, sizeof(*cpu));
    cpu->id = n;
    cpu->entry = fn;
    cpu->entry_arg = arg;
    ap_stack = (uint64_t)cpu + STACK_SIZE;
    memcpy((void *)AP_START, ap_start, (size_t)(ap_start_end - ap_start));
    apic_ipi(2 * n, 0xc500); /* INIT, assert */
    apic_ipi(2 * n, 0x8500);
    apic_ipi(2 * n, 0x600 | AP_START >> 12);
    while (!cpu->running && ns_now() < end)
        cpu_relax();
    return cpu->running;
}

/* --- start of day --- */

static void find_xen(void)
{
    uint32_t r[4];

    cpuid(0x40000002, 0, r);
    wrmsr(r[1], (uint64_t)hypercall_page);
}

_Noreturn void hvm_main(void);
_Noreturn void hvm_main(void)
{
    struct xen_add_to_physmap map = {.domid = DOMID_SELF,
                                     .space = XENMAPSPACE_shared_info,
                                     .gpfn = (uint64_t)&shared_page >> PAGE_SHIFT};

    hvm_info = start_info_at;
    idt_init();
    find_xen();
    print("\nTest guest %s: started\n", test_name);
    CHECK_EQ(HC(memory_op, XENMEM_add_to_physmap, &map), 0);
    test_main();
    test_finish();
}
