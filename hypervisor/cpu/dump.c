/* Registers and stack traces for the log. Reads only the hypervisor's own stack. */
#include "console/console.h"
#include "cpu/cpu.h"
#include "mm/layout.h"

#define TRACE_MAX 32

extern const char __text_start[], __text_end[];

void regs_dump(const struct cpu_user_regs *regs)
{
    log_error("CPU %u  rip %04x:%016lx %pS", this_cpu()->id, regs->cs, regs->rip,
              (void *)regs->rip);
    log_error("rflags %016lx  rsp %04x:%016lx  vector %u error %x", regs->rflags, regs->ss,
              regs->rsp, regs->entry_vector, regs->error_code);
    log_error("rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx", regs->rax, regs->rbx, regs->rcx,
              regs->rdx);
    log_error("rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx", regs->rsi, regs->rdi, regs->rbp,
              regs->r8);
    log_error("r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx", regs->r9, regs->r10, regs->r11,
              regs->r12);
    log_error("r13 %016lx  r14 %016lx  r15 %016lx", regs->r13, regs->r14, regs->r15);
    log_error("cr0 %lx  cr2 %lx  cr3 %lx  cr4 %lx", read_cr0(), read_cr2(), read_cr3(), read_cr4());
}

#ifdef DEBUG
/* Up the chain of frame pointers, which ends where one leads off this stack. */
static void trace_callers(uint64_t low, uint64_t high, uint64_t frame)
{
    for (unsigned i = 0; i < TRACE_MAX; i++) {
        if (frame < low || frame > high - 16 || frame % 8)
            return;
        const uint64_t *f = (const uint64_t *)frame;
        log_error("       %pS", (void *)f[1]);
        low = frame + 16;
        frame = f[0];
    }
}

#else
/* Release builds have no frame pointers: all that may be a return address, stale ones among them.
 */
static void trace_callers(uint64_t low, uint64_t high, uint64_t frame __unused)
{
    const uint64_t *word = (const uint64_t *)ROUND_UP(low, 8), *end = (const uint64_t *)high;
    for (unsigned i = 0; i < TRACE_MAX && word < end; word++)
        if (*word >= (uint64_t)__text_start && *word < (uint64_t)__text_end) {
            log_error("     ? %pS", (void *)*word);
            i++;
        }
}
#endif

void stack_trace(const struct cpu_user_regs *regs)
{
    if (regs->cs & 3 || regs->rsp < HV_VIRT_START)
        return;
    uint64_t high = (regs->rsp | (STACK_SIZE - 1)) + 1;
    log_error("stack: %pS", (void *)regs->rip);
    trace_callers(regs->rsp, high, regs->rbp);
}
