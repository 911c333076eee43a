/*
 * What every test kernel includes: console, checks, traps, memory, events, time and vCPUs.
 * A test defines `const char test_name[]` and `void test_main(void)`; when it returns, the last
 * line "Test result: N passed, N failed" is printed and the domain powers off.
 */
#ifndef GUESTS_GUEST_H
#define GUESTS_GUEST_H

#include "hypercall.h"
#include "layout.h"
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

extern const char test_name[];
void test_main(void);

/* --- main.c --- */
extern struct start_info *start_info;
extern uint64_t boot_stack; /* the stack pointer that the builder gave */
bool is_dom0(void);
bool is_trilby(void); /* for differences that Trilby means, each said where it is tested */
bool has_argument(const char *word); /* is @word on our command line? */
/* The number behind @name ("seed=") there; @value when it is not there. */
uint64_t argument(const char *name, uint64_t value);
_Noreturn void test_finish(void);
_Noreturn void shut_down(unsigned reason);

/* --- print.c: to the hypervisor's console as domain 0, else the console ring --- */
#define PRINTF_LIKE __attribute__((format(printf, 1, 2)))
void print(const char *format, ...) PRINTF_LIKE;
void print_raw(const char *s, size_t n);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strncmp(const char *a, const char *b, size_t n);

/* --- checks; each counts, failures say where, what was there and what should be --- */
extern unsigned checks_passed, checks_failed;
void section(const char *name); /* announces a group, so that a hang has a name */
void check_true(bool ok, const char *what, const char *file, int line);
void check_equal(long got, long want, const char *what, const char *file, int line);
void check_either(long got, long a, long b, const char *what, const char *file, int line);
#define CHECK(cond)         check_true((cond), #cond, __FILE__, __LINE__)
#define CHECK_EQ(got, want) check_equal((long)(got), (long)(want), #got, __FILE__, __LINE__)
/* Two right answers: the ABI leaves it open, or one of them is a documented difference. */
#define CHECK_IN(got, a, b)                                                                        \
    check_either((long)(got), (long)(a), (long)(b), #got, __FILE__, __LINE__)
/* Any refusal (a negative errno) is right. */
#define CHECK_REFUSED(got) check_refused((long)(got), #got, __FILE__, __LINE__)
void check_refused(long got, const char *what, const char *file, int line);

/* --- cpus (cpu.c): a struct cpu lies at the bottom of each stack --- */
struct context { /* context_save() in start.S */
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
};
struct regs { /* what every entry builds, lowest address first */
    uint64_t r15, r14, r13, r12, rbp, rbx, r10, r9, r8, rdx, rsi, rdi, vector;
    uint64_t rax, r11, rcx, error, rip, cs, rflags, rsp, ss;
};
struct trap { /* the last trap of this CPU that a test caught */
    unsigned count, vector;
    uint64_t error, cr2;
    struct regs regs;
};
struct cpu {
    unsigned id;
    struct trap trap;
    struct context *catch; /* where a caught trap goes on, or NULL */
    bool in_user;
    struct context user_back;
    struct regs user_exit;
    void (*entry)(void *);
    void *entry_arg;
    volatile bool running, done;
    volatile unsigned upcalls;
};
#define MAX_CPUS 32
static inline struct cpu *this_cpu(void)
{
    uint64_t sp;

    asm volatile("mov %%rsp, %0" : "=r"(sp));
    return (struct cpu *)(sp & ~(STACK_SIZE - 1UL));
}
struct cpu *cpu_get(unsigned id);
struct vcpu_guest_context *cpu_context(unsigned id); /* a flat one, in a static buffer */
long cpu_initialise(unsigned id);                    /* VCPUOP_initialise with that */
/* Initialises (once) and brings up vCPU @id to run @entry; it goes down when that returns. */
long cpu_run(unsigned id, void (*entry)(void *), void *arg);
void cpu_wait(unsigned id); /* until that entry returned and the vCPU is down */
unsigned cpu_count(void);   /* vCPUs that this domain may have */
static inline void cpu_relax(void)
{
    asm volatile("pause" ::: "memory");
}

/* --- traps (trap.c) --- */
void trap_init(void);
void trap_fill(struct trap_info *traps);     /* 256 rows, by vector, for vcpu_guest_context */
typedef bool trap_hook_t(struct regs *regs); /* true: handled, go on at *regs */
void trap_set_hook(unsigned vector, trap_hook_t *hook);
extern char trap_entry_soft[], entry_event[], entry_syscall[], entry_failsafe[], entry_nmi[];
extern char entry_syscall32[], entry_sysenter[];
long context_save(struct context *c) __attribute__((returns_twice));
_Noreturn void context_load(struct context *c, long value);
_Noreturn void regs_load(struct regs *regs);
/* Runs fn(arg); false when it trapped, and this_cpu()->trap says how. */
bool try_call(void (*fn)(void *), void *arg);

/*
 * One instruction that may trap: TRY("mov %1, %0", : "=r"(x) : "m"(y)); then trapped() is whether
 * it did, with this_cpu()->trap filled in and execution going on behind it.
 */
#define TRY(insn, ...)                                                                             \
    do {                                                                                           \
        trap_forget();                                                                             \
        asm volatile("1: " insn                                                                    \
                     "\n2:\n.pushsection .extable, \"a\"\n.quad 1b, 2b\n.popsection" __VA_ARGS__); \
    } while (0)
void trap_forget(void);
static inline unsigned trapped(void)
{
    return this_cpu()->trap.count;
}
/* After a TRY: it trapped once, with this vector and error code. */
#define CHECK_TRAP(vec, err)                                                                       \
    do {                                                                                           \
        CHECK_EQ(trapped(), 1);                                                                    \
        if (trapped()) {                                                                           \
            CHECK_EQ(this_cpu()->trap.vector, vec);                                                \
            CHECK_EQ(this_cpu()->trap.error, err);                                                 \
        }                                                                                          \
    } while (0)
bool try_read(const volatile void *p, uint64_t *value); /* one quadword; false when it trapped */
bool try_write(volatile void *p, uint64_t value);

enum {
    T_DE = 0,
    T_DB = 1,
    T_NMI = 2,
    T_BP = 3,
    T_OF = 4,
    T_BR = 5,
    T_UD = 6,
    T_NM = 7,
    T_DF = 8,
    T_TS = 10,
    T_NP = 11,
    T_SS = 12,
    T_GP = 13,
    T_PF = 14,
    T_MF = 16,
    T_AC = 17,
    T_XM = 19
};
#define PF_P 1
#define PF_W 2
#define PF_U 4
#define PF_I 16

/*
 * User mode (user.c): runs with *regs until a trap or system call brings us back; *regs is then the
 * state of user mode, regs->vector the reason and regs->error the error code.
 * @flags: VGCF_ flags of the iret hypercall.
 */
void user_run(struct regs *regs, uint64_t flags);
void user_setup(void); /* once: a user page table that shares our image, and a kernel stack */
void user_regs(struct regs *regs, const void *code); /* fresh registers for @code, own stack */
extern uint64_t *user_l4;
extern uint8_t user_stack[4096];

/* --- memory (mm.c) --- */
#define PAGE_SIZE            4096UL
#define PAGE_SHIFT           12
#define PTE_P                0x001UL
#define PTE_RW               0x002UL
#define PTE_U                0x004UL
#define PTE_PWT              0x008UL
#define PTE_PCD              0x010UL
#define PTE_A                0x020UL
#define PTE_D                0x040UL
#define PTE_PS               0x080UL
#define PTE_G                0x100UL
#define PTE_NX               (1UL << 63)
#define PTE_ADDR             0x000ffffffffff000UL
#define PTE_KERN             (PTE_P | PTE_RW | PTE_U | PTE_A | PTE_D)
#define PTE_RO               (PTE_P | PTE_U | PTE_A)
#define PTE_TABLE            (PTE_P | PTE_RW | PTE_U | PTE_A)
#define MAKE_PTE(mfn, flags) (((uint64_t)(mfn) << PAGE_SHIFT) | (flags))

void *page_alloc(void);   /* a zeroed page of the image, mapped writable */
void page_free(void *p);  /* must be mapped writable again */
uint64_t spare_pfn(void); /* a page of the domain that nothing maps; never returned twice */
uint64_t pfn_of(const void *va);
uint64_t mfn_of(const void *va); /* frame that the p2m has for an address of the image */
uint64_t pfn_to_mfn(uint64_t pfn);
void set_p2m(uint64_t pfn, uint64_t mfn);
uint64_t mfn_to_pfn(uint64_t mfn);                  /* by the machine-to-physical table */
void *pfn_to_virt(uint64_t pfn);                    /* within the bootstrap mapping only */
uint64_t *pt_entry(const void *va, unsigned level); /* entry of a live table, or NULL */
uint64_t pt_entry_maddr(const void *va, unsigned level);
uint64_t pte_get(const void *va); /* the level 1 entry */
uint64_t cr3_mfn(void);
long mmu_set(uint64_t maddr, uint64_t value); /* one mmu_update of ourselves */
long va_map(const void *va, uint64_t pte);    /* update_va_mapping and invlpg */
long map_ro(const void *va);                  /* image page read-only, and back */
long map_rw(const void *va);
long mmuext(unsigned cmd, uint64_t mfn_or_address);
long mmuext2(unsigned cmd, uint64_t arg1, uint64_t arg2);
/* Maps any address below the hypervisor's: builds what tables are missing. */
long map_at(uint64_t va, uint64_t pte);
void *window_map(uint64_t mfn, uint64_t flags); /* one of a few windows; NULL when refused */
void window_unmap(void *window);

/* --- events (event.c) --- */
struct shared_info *shared(void); /* mapped at the first call; NULL when that failed */
struct vcpu_info *vcpu_info(unsigned id);
void vcpu_info_moved(unsigned id, struct vcpu_info *info); /* after register_vcpu_info */
void event_init(void); /* callbacks registered; delivery still masked */
void events_on(void);  /* unmasks this vCPU and takes what is pending */
void events_off(void);
void event_upcall(void);
extern volatile unsigned event_count[4096]; /* times that each port was taken by an upcall */
extern volatile unsigned event_last_cpu;
bool event_pending(unsigned port); /* 2-level only */
void event_mask(unsigned port, bool masked);
void event_clear(unsigned port);
bool event_wait(unsigned port, unsigned count, uint64_t ns); /* until event_count reaches count */

/* --- time (time.c) --- */
uint64_t time_now(void); /* ns since boot, by the pvclock */
uint64_t time_of(volatile struct vcpu_time_info *t);
void time_spin(uint64_t ns);
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    asm volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

/* Addresses that no hypercall may take. */
#define BAD_HYPERVISOR   0xffff830000000000UL
#define BAD_NONCANONICAL 0x8000000000000000UL
#define BAD_UNMAPPED     0x0000123456789000UL

#endif
