/*
 * Devices and input.
 *
 * The log ring is the queue of every device: each keeps the position up to which it has shown the
 * log, and whoever adds a line brings all devices up to date before giving the lock back. So a
 * device that is found or becomes reachable late shows what was logged before. Domain 0's own
 * output does not enter the ring and goes to the serial line alone, between two log lines.
 *
 * Lock: console_lock below, the last in the lock order. An NMI handler and a panicking CPU do not
 * wait for it: the first one's line is lost and counted when the lock is taken, the second one
 * carries on without it after a while, for its holder may be stopped.
 *
 * Output is always complete when the call returns, so sync_console and console_force_sync() have
 * nothing left to change.
 */
#include "console/console.h"
#include "boot/bootinfo.h"
#include "console/internal.h"
#include "cpu/cpu.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "mm/mm.h"

#define VGA_MEMORY 0xb8000

static struct device {
    bool on;
    uint32_t shown; /* position in the log ring */
    void (*write)(const char *buf, size_t n);
} serial = {.write = uart_write}, screen = {.write = vga_write};

static struct spinlock lock = SPINLOCK_INIT(RANK_CONSOLE);
static bool panicking;       /* [a] */
static bool lock_busted;     /* the lock was not taken: its holder is stopped */
static unsigned lost_in_nmi; /* [a] */
static char last_raw = '\n'; /* last byte on the serial line */

static char input[1024]; /* typed for domain 0; what does not fit is lost */
static unsigned input_first, input_count;
static bool input_to_keys;
static unsigned escapes; /* Ctrl-A in a row, held back */

void (*console_input_hook)(void);

#define ESCAPE       '\001'
#define ESCAPE_COUNT 3

bool console_panicking(void)
{
    return __atomic_load_n(&panicking, __ATOMIC_RELAXED);
}

void console_set_panicking(void)
{
    __atomic_store_n(&panicking, true, __ATOMIC_RELAXED);
}

void console_force_sync(void)
{
}

bool console_lock(void)
{
    if (console_panicking()) {
        for (unsigned tries = 0; tries < 1000000; tries++) {
            if (spin_trylock(&lock))
                return true;
            cpu_pause();
        }
        lock_busted = true;
        return true;
    }
    if (this_cpu()->in_nmi)
        return spin_trylock(&lock);
    spin_lock(&lock);
    return true;
}

void console_unlock(void)
{
    if (lock_busted)
        lock_busted = false;
    else
        spin_unlock(&lock);
}

/* Raw bytes to the serial line, whose terminal wants a return before each line feed. */
static void serial_raw(const char *buf, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t run = i;
        while (run < n && buf[run] != '\n')
            run++;
        if (run > i) {
            uart_write(buf + i, run - i);
            last_raw = buf[run - 1];
        }
        if (run < n) {
            uart_write("\r\n", last_raw == '\r' ? 0 : 1);
            uart_write("\n", 1);
            last_raw = '\n';
            run++;
        }
        i = run;
    }
}

static void show_log(struct device *d)
{
    char chunk[128];
    size_t n;
    if (!d->on || d->shown == log_ring_end())
        return;
    if (d == &serial && last_raw != '\n')
        serial_raw("\n", 1);
    while ((n = log_ring_copy(chunk, sizeof(chunk), &d->shown))) {
        if (d == &serial)
            serial_raw(chunk, n);
        else
            d->write(chunk, n);
    }
}

void console_put_line(const char *line, size_t n)
{
    if (!console_lock()) {
        __atomic_fetch_add(&lost_in_nmi, 1, __ATOMIC_RELAXED);
        return;
    }
    if (unlikely(__atomic_exchange_n(&lost_in_nmi, 0, __ATOMIC_RELAXED))) {
        static const char said[] = "(trilby) warning: lines of an NMI handler were lost\n";
        log_ring_put(said, sizeof(said) - 1);
    }
    log_ring_put(line, n);
    /* In an NMI only the ring: the devices may be slow. The next line brings them up to date. */
    if (!this_cpu()->in_nmi || console_panicking()) {
        show_log(&serial);
        show_log(&screen);
    }
    console_unlock();
}

void console_write(const char *buf, size_t n)
{
    if (!serial.on || !console_lock())
        return;
    show_log(&serial);
    serial_raw(buf, n);
    console_unlock();
}

size_t console_read(char *buf, size_t n)
{
    if (!console_lock())
        return 0;
    n = min(n, (size_t)input_count);
    for (size_t i = 0; i < n; i++) {
        buf[i] = input[input_first];
        input_first = (input_first + 1) % sizeof(input);
    }
    input_count -= (unsigned)n;
    console_unlock();
    return n;
}

static void input_put(char c)
{
    if (!console_lock())
        return;
    if (input_count < sizeof(input))
        input[(input_first + input_count++) % sizeof(input)] = c;
    console_unlock();
}

static void deliver(char c)
{
    if (input_to_keys)
        key_press(c);
    else
        input_put(c);
}

void console_receive(char c)
{
    if (c == ESCAPE && ++escapes < ESCAPE_COUNT)
        return;
    if (c == ESCAPE) {
        escapes = 0;
        input_to_keys = !input_to_keys;
        log_always("*** serial input goes to %s (three Ctrl-A switch%s)",
                   input_to_keys ? "the hypervisor's keys" : "domain 0",
                   input_to_keys ? " back, 'h' lists the keys" : "");
        return;
    }
    /* Fewer than three were meant for whoever reads the line. */
    for (; escapes; escapes--)
        deliver(ESCAPE);
    deliver(c);
    if (!input_to_keys && console_input_hook)
        console_input_hook();
}

uint16_t console_serial_port(void)
{
    return serial.on ? uart_port() : 0;
}

/* Is @name one of the comma-separated names in console=? */
static bool wanted(const char *name)
{
    size_t n = strlen(name);
    for (const char *p = boot_options.console; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (!strncmp(p, name, n) && (p[n] == ',' || !p[n]))
            return true;
    }
    return false;
}

static __init void report_unknown_names(void)
{
    static const char *const known[] = {"com1", "com2", "vga", "none"};
    for (const char *p = boot_options.console; *p;) {
        size_t n = 0;
        bool found = false;
        while (p[n] && p[n] != ',')
            n++;
        for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
            found |= strlen(known[i]) == n && !strncmp(known[i], p, n);
        if (!found)
            log_warn("console=%s: there is no such device at \"%s\"", boot_options.console, p);
        p += n + (p[n] == ',');
    }
}

__init void console_init_early(void)
{
    report_unknown_names();
    if (wanted("com1"))
        serial.on = uart_init("com1", boot_options.com1, 0x3f8, 4);
    else if (wanted("com2"))
        serial.on = uart_init("com2", boot_options.com2, 0x2f8, 3);
    if (wanted("vga") && !bootinfo.framebuffer.base.a && !bootinfo.efi_system_table.a)
        screen.on = vga_init(maddr_to_virt(maddr(VGA_MEMORY)));
    if (console_lock()) {
        show_log(&serial);
        show_log(&screen);
        console_unlock();
    }
}

__init void console_init_screen(void)
{
    if (!wanted("vga") || !bootinfo.framebuffer.base.a || !framebuffer_init(&bootinfo.framebuffer))
        return;
    if (console_lock()) {
        screen.write = framebuffer_write;
        screen.on = true;
        show_log(&screen);
        console_unlock();
    }
}

void console_screen_release(void)
{
    if (console_lock()) {
        screen.on = false;
        console_unlock();
    }
}

static __init void grow_ring(void)
{
    uint32_t size = LOG_RING_DEFAULT;
    uint64_t asked = boot_options.conring_size;
    if (asked > LOG_RING_MAX) {
        log_warn("conring_size=%luK is too large, %uK is used", asked >> 10, LOG_RING_MAX >> 10);
        asked = LOG_RING_MAX;
    }
    unsigned order = 4; /* the default's, in pages */
    while (size < asked) {
        size *= 2;
        order++;
    }
    if (size == LOG_RING_DEFAULT)
        return;
    struct page *page = page_alloc(order, 0);
    if (!page) {
        log_warn("no memory for conring_size=%uK", size >> 10);
        return;
    }
    if (console_lock()) {
        log_ring_grow(page_to_virt(page), size);
        console_unlock();
    }
}

__init void console_init(void)
{
    grow_ring();
    keys_init();
    if (serial.on)
        uart_start_input();
}
