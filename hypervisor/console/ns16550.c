/*
 * The 16550 UART of a PC (National Semiconductor PC16550D data sheet), one of them: output polled
 * through its FIFO, input by interrupt or, when its line cannot be had, by a timer.
 *
 * Output runs under the console lock. A receiver that stops (flow control, a full pipe behind an
 * emulator) is waited for up to STUCK_POLLS register reads, some seconds; after that bytes are
 * dropped quickly until the transmitter moves again, so that a dead terminal cannot stop the
 * machine.
 */
#include "acpi/acpi.h"
#include "console/internal.h"
#include "cpu/cpu.h"
#include "irq/irq.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "time/time.h"

/* Registers (data sheet section 8). */
#define UART_DATA      0
#define UART_IER       1 /* interrupt enable */
#define UART_FCR       2 /* write: FIFO control */
#define UART_IIR       2 /* read: interrupt identification */
#define UART_LCR       3 /* line control */
#define UART_MCR       4 /* modem control */
#define UART_LSR       5 /* line status */
#define UART_SCR       7 /* scratch */

#define IER_RX         0x01
#define IIR_NONE       0x01
#define FCR_ENABLE     0x01
#define FCR_CLEAR      0x06
#define FCR_TRIGGER_1  0x00
#define LCR_DLAB       0x80
#define MCR_DTR_RTS    0x03
#define MCR_OUT2       0x08 /* lets the interrupt out on a PC */
#define LSR_DATA       0x01
#define LSR_THR_EMPTY  0x20
#define FIFO_BYTES     16
#define UART_CLOCK     115200 /* baud at divisor 1 */
#define STUCK_POLLS    3000000u
#define INPUT_INTERVAL MILLISECONDS(20)

static uint16_t base;
static unsigned isa_irq;
static bool stuck;
static struct timer input_timer;

static uint8_t get(unsigned reg)
{
    return inb((uint16_t)(base + reg));
}

static void put(unsigned reg, uint8_t v)
{
    outb((uint16_t)(base + reg), v);
}

uint16_t uart_port(void)
{
    return base;
}

struct setting {
    uint64_t baud, port, irq; /* baud 0: as the firmware left it */
    uint8_t line_control;
};

/* "8n1": data bits, parity n o e, stop bits. */
static bool parse_frame(const char **p, uint8_t *lcr)
{
    const char *s = *p;
    if (s[0] < '5' || s[0] > '8' || !s[1] || !strchr("noe", s[1]) || (s[2] != '1' && s[2] != '2'))
        return false;
    *lcr = (uint8_t)((s[0] - '5') | (s[2] == '2' ? 0x04 : 0) |
                     (s[1] == 'o'   ? 0x08
                      : s[1] == 'e' ? 0x18
                                    : 0));
    *p = s + 3;
    return true;
}

static bool parse(const char *s, struct setting *set)
{
    const char *end;
    if (!strncmp(s, "auto", 4)) {
        set->baud = 0;
        s += 4;
    } else if (*s && *s != ',') {
        set->baud = str_to_u64(s, &end);
        if (end == s || !set->baud || set->baud > UART_CLOCK)
            return false;
        s = end;
    }
    if (*s == ',' && *++s != ',' && *s && !parse_frame(&s, &set->line_control))
        return false;
    if (*s == ',' && *++s != ',' && *s) {
        set->port = str_to_u64(s, &end);
        if (end == s || !set->port || set->port > 0xfff8)
            return false;
        s = end;
    }
    if (*s == ',') {
        set->irq = str_to_u64(++s, &end);
        if (end == s || set->irq > 15)
            return false;
        s = end;
    }
    return !*s;
}

__init bool uart_init(const char *name, const char *config, uint16_t port, unsigned irq)
{
    struct setting set = {.baud = UART_CLOCK, .port = port, .irq = irq, .line_control = 0x03};
    if (!parse(config, &set)) {
        log_error("%s=%s is malformed, 115200,8n1 is used", name, config);
        set = (struct setting){UART_CLOCK, port, irq, 0x03};
    }
    base = (uint16_t)set.port;
    isa_irq = (unsigned)set.irq;

    put(UART_SCR, 0x5a);
    if (get(UART_SCR) != 0x5a || get(UART_LSR) == 0xff) {
        log_error("%s: no UART at port 0x%x", name, base);
        return false;
    }
    put(UART_IER, 0);
    if (set.baud) {
        unsigned divisor = UART_CLOCK / (unsigned)set.baud;
        put(UART_LCR, set.line_control | LCR_DLAB);
        put(UART_DATA, (uint8_t)divisor);
        put(UART_IER, (uint8_t)(divisor >> 8));
    }
    put(UART_LCR, set.line_control);
    put(UART_FCR, FCR_ENABLE | FCR_CLEAR | FCR_TRIGGER_1);
    put(UART_MCR, MCR_DTR_RTS);
    return true;
}

/* Waits until the transmit FIFO is empty; false when it does not become so. */
static bool wait_empty(void)
{
    unsigned polls = stuck ? 100 : STUCK_POLLS;
    bool may_answer = !console_panicking() && !this_cpu()->in_nmi;
    while (!(get(UART_LSR) & LSR_THR_EMPTY)) {
        if (!polls--) {
            stuck = true;
            return false;
        }
        if (may_answer)
            spin_poll();
    }
    stuck = false;
    return true;
}

void uart_write(const char *buf, size_t n)
{
    while (n && wait_empty())
        for (unsigned room = FIFO_BYTES; n && room; n--, room--)
            put(UART_DATA, (uint8_t)*buf++);
}

static void drain(void)
{
    /* Bounded: a line that never falls silent must not hold this CPU. */
    for (unsigned i = 0; i < 256 && (get(UART_LSR) & LSR_DATA); i++)
        console_receive((char)get(UART_DATA));
}

static void on_interrupt(unsigned irq, void *data __unused)
{
    /* Edge-triggered: the line must have been seen idle before the next edge can come. */
    for (unsigned i = 0; i < 64 && !(get(UART_IIR) & IIR_NONE); i++)
        drain();
    if (irq_needs_eoi(irq))
        irq_done(irq);
}

static void on_timer(void *data __unused)
{
    drain();
    timer_set(&input_timer, time_now() + INPUT_INTERVAL);
}

__init void uart_start_input(void)
{
    unsigned irq = acpi_info.isa[isa_irq].gsi;
    int rc = irq_bind(irq, on_interrupt, NULL, 0);
    if (rc) {
        log_info("serial input is polled: interrupt %u is not available (%d)", irq, rc);
        timer_init(&input_timer, on_timer, NULL, 0);
        timer_set(&input_timer, time_now() + INPUT_INTERVAL);
        return;
    }
    while (get(UART_LSR) & LSR_DATA)
        get(UART_DATA); /* noise of power-on */
    put(UART_MCR, MCR_DTR_RTS | MCR_OUT2);
    put(UART_IER, IER_RX);
    irq_unmask(irq);
}
