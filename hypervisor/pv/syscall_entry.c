/*
 * Where SYSCALL lands. A PV guest owns both GS bases, so the entry cannot find its CPU through
 * one; instead every CPU's LSTAR points at its own few instructions, which reach that CPU's words
 * relative to RIP:
 *
 *     mov %rsp, saved_rsp     the guest's, kept just until it is pushed
 *     mov entry_rsp, %rsp     &stack->regs.es of the vCPU on this CPU (cpu_set_entry_stack())
 *     push ss, saved_rsp, rflags (in r11), cs, rip (in rcx)
 *     jmp *common             pv_entry_syscall in entry.S
 *
 * The stubs lie in executable read-only pages, the words in writable ones; both are made once here
 * and mapped for good. Until the second instruction the stack pointer is still the guest's: only
 * NMI, #DB and #MC can come then, and those have stacks of their own.
 *
 * SYSCALL from 32-bit code of user mode (CSTAR) differs in the code selector. SYSENTER is left
 * without a target: it raises #GP, and Linux does not use it when its callback is refused.
 */
#include "console/console.h"
#include "lib/string.h"
#include "pv/internal.h"

#include <xen/callback.h>

void pv_entry_syscall(void);

#define STUB_SIZE  64 /* two per CPU: 64-bit and 32-bit callers */
#define STUB_PAGES (MAX_CPUS * 2 * STUB_SIZE / PAGE_SIZE)

struct entry_words {
    uint64_t saved_rsp, entry_rsp, common;
    uint64_t pad[5]; /* a cache line each */
};
#define WORD_PAGES (MAX_CPUS * sizeof(struct entry_words) / PAGE_SIZE)

static uint8_t *stubs __ro_after_init;       /* as executed */
static uint8_t *stubs_alias __ro_after_init; /* the same frames in the direct map, to write them */
static struct entry_words *words __ro_after_init;

static uint8_t *put(uint8_t *at, const void *bytes, unsigned n)
{
    memcpy(at, bytes, n);
    return at + n;
}

/* An instruction whose last four bytes are the distance from its end to @target. */
static uint8_t *put_relative(uint8_t *at, const void *opcode, unsigned n, const void *target)
{
    at = put(at, opcode, n);
    int32_t distance = (int32_t)((const uint8_t *)target - (stubs + (at - stubs_alias) + 4));
    return put(at, &distance, sizeof(distance));
}

static uint8_t *put_push_imm(uint8_t *at, uint32_t imm)
{
    at = put(at, "\x68", 1);
    return put(at, &imm, sizeof(imm));
}

static void build_stub(unsigned slot, struct entry_words *w, uint16_t cs)
{
    uint8_t *start = stubs_alias + slot * STUB_SIZE, *p = start;
    p = put_relative(p, "\x48\x89\x25", 3, &w->saved_rsp); /* mov %rsp, saved_rsp(%rip) */
    p = put_relative(p, "\x48\x8b\x25", 3, &w->entry_rsp); /* mov entry_rsp(%rip), %rsp */
    p = put_push_imm(p, SEL_USER_DS);
    p = put_relative(p, "\xff\x35", 2, &w->saved_rsp); /* push saved_rsp(%rip) */
    p = put(p, "\x41\x53", 2);                         /* push %r11 */
    p = put_push_imm(p, cs);
    p = put(p, "\x51", 1);                          /* push %rcx */
    p = put_relative(p, "\xff\x25", 2, &w->common); /* jmp *common(%rip) */
    ASSERT(p <= start + STUB_SIZE);
}

static void *map_pages(unsigned pages, unsigned flags, void **alias)
{
    unsigned order = 0;
    while (1u << order < pages)
        order++;
    struct page *page = page_alloc(order, ALLOC_ZERO);
    void *va = page ? vmap_contiguous(page_to_mfn(page), pages, flags) : NULL;
    if (!va)
        panic("no memory for the system call entries");
    *alias = page_to_virt(page);
    return va;
}

void pv_syscall_entry_init(void)
{
    void *words_alias;
    stubs = map_pages(STUB_PAGES, MAP_RX, (void **)&stubs_alias);
    words = map_pages(WORD_PAGES, MAP_RW, &words_alias);
    int64_t apart = (uint8_t *)words - stubs;
    if (apart != (int32_t)apart)
        panic("the system call entries lie too far from their data");

    memset(stubs_alias, 0xcc, STUB_PAGES * PAGE_SIZE);
    for (unsigned i = 0; i < MAX_CPUS; i++) {
        words[i].common = (uint64_t)pv_entry_syscall;
        build_stub(2 * i, &words[i], SEL_USER_CS64);
        build_stub(2 * i + 1, &words[i], SEL_USER_CS32);
    }
}

void pv_init_cpu(void)
{
    struct cpu *c = this_cpu();
    struct entry_words *w = &words[c->id];
    if (c->entry_rsp)
        w->entry_rsp = *c->entry_rsp;
    c->entry_rsp = &w->entry_rsp;

    /* SYSCALL loads CS and SS = CS + 8 from bits 47..32 (APM vol. 2 section 6.1.1); SYSRET would
     * take SEL_USER_CS32 + 16 and + 8. */
    wrmsr(MSR_STAR, (uint64_t)SEL_USER_CS32 << 48 | (uint64_t)HV_CS << 32);
    wrmsr(MSR_LSTAR, (uint64_t)stubs + 2 * c->id * STUB_SIZE);
    wrmsr(MSR_CSTAR, (uint64_t)stubs + (2 * c->id + 1) * STUB_SIZE);
    wrmsr(MSR_SFMASK,
          RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_RF | RFLAGS_AC);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_SYSENTER_CS, 0);
    wrmsr(MSR_SYSENTER_ESP, 0);
    wrmsr(MSR_SYSENTER_EIP, 0);
}

/*
 * The page that guests call through: entry n is hypercall n (xen/xen.h). SYSCALL destroys rcx and
 * r11, which callers keep. The iret entry instead leaves rcx, r11 and rax as struct iret_context
 * (xen/arch-x86/xen-x86_64.h) wants them and does not return.
 */
void pv_write_hypercall_page(void *page)
{
    memset(page, 0xcc, PAGE_SIZE);
    for (uint32_t nr = 0; nr < PAGE_SIZE / 32; nr++) {
        uint8_t *p = (uint8_t *)page + nr * 32;
        if (nr == __HYPERVISOR_iret) {
            p = put(p, "\x51\x41\x53\x50\xb8", 5); /* push %rcx, %r11, %rax; mov $nr, %eax */
            p = put(p, &nr, sizeof(nr));
            put(p, "\x0f\x05", 2); /* syscall */
        } else {
            p = put(p, "\x51\x41\x53\xb8", 4); /* push %rcx, %r11; mov $nr, %eax */
            p = put(p, &nr, sizeof(nr));
            put(p, "\x0f\x05\x41\x5b\x59\xc3", 6); /* syscall; pop %r11, %rcx; ret */
        }
    }
}
