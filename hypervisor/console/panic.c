/*
 * The end: we are wrong, or the machine is. The first CPU that comes here speaks, with its
 * registers and a stack trace; the others are stopped. Takes no lock that it would have to wait for
 * (console.c) and may be called in any state, NMI included.
 */
#include "boot/bootinfo.h"
#include "console/internal.h"
#include "cpu/cpu.h"
#include "lib/printf.h"

/* CPU number + 1 of the one that panics; 0 = none. */
static unsigned panicked; /* [a] */

/* Filled by panic_entry.S, once. */
extern struct cpu_user_regs panic_regs;
extern uint32_t panic_taken;
struct cpu_user_regs panic_regs;
uint32_t panic_taken;
void panic_body(const char *fmt, ...) __printf(1, 2) __noreturn;

static void __noreturn stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* Some seconds in which a screen can be read: about a microsecond per read of port 0x80. */
static void pause_before_reboot(void)
{
    for (unsigned i = 0; i < 3000000; i++)
        inb(0x80);
}

void panic_body(const char *fmt, ...)
{
    cli();
    uint64_t from = (uint64_t)__builtin_return_address(0); /* panic()'s: it jumped here */
    unsigned self = this_cpu()->id + 1, none = 0;
    if (!__atomic_compare_exchange_n(&panicked, &none, self, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        if (none == self) {
            static const char again[] = "(trilby) another panic inside the panic: halted\n";
            console_put_line(again, sizeof(again) - 1);
        }
        stop();
    }
    console_set_panicking();

    char message[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);

    uint16_t cs, ss;
    __asm__ volatile("mov %%cs, %0\n\tmov %%ss, %1" : "=r"(cs), "=r"(ss));
    panic_regs.cs = cs;
    panic_regs.ss = ss;
    panic_regs.rip = from - 5; /* the call itself, which may be its function's last */
    panic_regs.rsp += 8;       /* as after the return that does not happen */
    log_always("----");
    log_always("PANIC on CPU %u: %s", self - 1, message);
    regs_dump(&panic_regs);
    stack_trace(&panic_regs);
    ipi_stop_others();

    if (boot_options.noreboot) {
        log_always("halted; reset the machine by hand (noreboot)");
        machine_halt();
    }
    log_always("the machine reboots");
    pause_before_reboot();
    machine_reboot();
}
