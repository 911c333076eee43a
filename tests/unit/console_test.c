/* SOURCES: console/console.c console/log.c console/keys.c lib/bitmap.c lib/spinlock.c */
/* SOURCES: fake/cpu.c fake/alloc.c fake/irq.c */
/*
 * Log, ring, serial output and input over a UART that is a buffer: levels, replay, rate limit, what
 * readers see across wraps and clears, the switch of input, lines from NMI handlers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/bootinfo.h"
#include "console/internal.h"
#include "fake/cpu.h"
#include "time/time.h"

struct bootinfo bootinfo;
struct boot_options boot_options;

static char sent[200000];
static size_t sent_size;
static ns_t now;
static unsigned hook_calls;
static char pressed[16];
static char ring_memory[256 << 10];

ns_t time_now(void)
{
    return now;
}

bool uart_init(const char *name, const char *config, uint16_t port, unsigned irq)
{
    return true;
}

void uart_write(const char *buf, size_t n)
{
    assert_true(sent_size + n < sizeof(sent));
    memcpy(sent + sent_size, buf, n);
    sent_size += n;
    sent[sent_size] = '\0';
}

void uart_start_input(void)
{
}

uint16_t uart_port(void)
{
    return 0x3f8;
}

bool framebuffer_init(const struct framebuffer *fb)
{
    return true;
}

void framebuffer_write(const char *buf, size_t n)
{
}

bool vga_init(void *memory)
{
    return true;
}

void vga_write(const char *buf, size_t n)
{
}

struct page *page_alloc(unsigned order, unsigned flags)
{
    return NULL;
}

void regs_dump(const struct cpu_user_regs *regs)
{
}

void machine_reboot(void)
{
    abort();
}

static void drop_sent(void)
{
    sent_size = 0;
    sent[0] = '\0';
}

static void type(const char *s)
{
    while (*s)
        console_receive(*s++);
}

static void hook(void)
{
    hook_calls++;
}

/* First: what was logged before there was a device. */
static void test_replay(void **state)
{
    boot_options.loglvl = LOG_INFO;
    boot_options.guest_loglvl = LOG_DEBUG;
    strcpy(boot_options.console, "com1");
    log_info("early %d", 1);
    log_debug("not shown");
    assert_int_equal(console_serial_port(), 0);
    console_init_early();
    assert_int_equal(console_serial_port(), 0x3f8);
    assert_string_equal(sent, "(trilby) early 1\r\n");
    drop_sent();
    log_warn("careful\n");
    assert_string_equal(sent, "(trilby) warning: careful\r\n");
}

static void test_levels(void **state)
{
    drop_sent();
    boot_options.loglvl = -1;
    log_error("x");
    assert_int_equal(sent_size, 0);
    boot_options.loglvl = LOG_DEBUG;
    log_debug("x");
    assert_string_equal(sent, "(trilby) debug: x\r\n");
    char lengthy[2000];
    memset(lengthy, 'y', sizeof(lengthy));
    lengthy[1999] = '\0';
    drop_sent();
    log_info("%s", lengthy);
    assert_true(sent_size < 600);
    assert_string_equal(sent + sent_size - 3, "y\r\n");
}

static void test_raw(void **state)
{
    drop_sent();
    console_write("a\nb\r\nc", 6);
    assert_string_equal(sent, "a\r\nb\r\nc");
    log_info("line");
    assert_string_equal(sent, "a\r\nb\r\nc\r\n(trilby) line\r\n");
}

static void test_ring(void **state)
{
    static char buf[1 << 20];
    uint32_t index = 0;
    log_info("needle");
    size_t n = log_ring_read(buf, sizeof(buf) - 1, &index, false);
    buf[n] = '\0';
    assert_non_null(strstr(buf, "early 1\n"));
    assert_non_null(strstr(buf, "needle\n"));
    assert_null(strstr(buf, "b\r\nc")); /* domain 0's output is not in it */
    assert_int_equal(log_ring_read(buf, sizeof(buf), &index, false), 0);

    log_info("next");
    n = log_ring_read(buf, sizeof(buf) - 1, &index, false);
    buf[n] = '\0';
    assert_string_equal(buf, "(trilby) next\n");
    n = log_ring_read(buf, 3, &(uint32_t){0}, false); /* in small pieces */
    assert_int_equal(n, 3);
    assert_memory_equal(buf, "(tr", 3);

    /* Cleared: gone for those who start anew, not for who reads on. */
    uint32_t end = 0;
    log_info("before clear");
    log_ring_read(buf, 0, &end, true);
    log_info("after");
    uint32_t fresh = 0;
    n = log_ring_read(buf, sizeof(buf) - 1, &fresh, false);
    buf[n] = '\0';
    assert_string_equal(buf, "(trilby) after\n");

    /* Overwritten: the oldest kept is what one gets. */
    for (int i = 0; i < 5000; i++) {
        drop_sent();
        log_info("filler %d", i);
    }
    fresh = 0;
    n = log_ring_read(buf, sizeof(buf) - 1, &fresh, false);
    assert_int_equal(n, LOG_RING_DEFAULT);
    buf[n] = '\0';
    assert_non_null(strstr(buf, "filler 4999\n"));
    assert_null(strstr(buf, "filler 1\n"));
    n = log_ring_read(buf, sizeof(buf), &index, false); /* its position is lost */
    assert_int_equal(n, LOG_RING_DEFAULT);

    /* Grown: nothing is lost. */
    log_ring_grow(ring_memory, sizeof(ring_memory));
    log_info("in the new one");
    fresh = 0;
    n = log_ring_read(buf, sizeof(buf) - 1, &fresh, false);
    buf[n] = '\0';
    assert_true(n > LOG_RING_DEFAULT);
    assert_non_null(strstr(buf, "filler 4999\n(trilby) in the new one\n"));
    drop_sent();
}

static unsigned lines(void)
{
    unsigned count = 0;
    for (size_t i = 0; i < sent_size; i++)
        count += sent[i] == '\n';
    return count;
}

static void test_rate_limit(void **state)
{
    drop_sent();
    for (int i = 0; i < 1000; i++)
        log_guest(3, LOG_INFO, "noise %d", i);
    unsigned burst = lines();
    assert_true(burst >= 10 && burst <= 100);
    assert_non_null(strstr(sent, "(trilby) d3 noise 0\r\n"));
    log_guest(4, LOG_ERROR, "quiet one"); /* another guest is not affected */
    assert_non_null(strstr(sent, "(trilby) d4 error: quiet one\r\n"));

    drop_sent();
    now += SECONDS(1);
    log_guest(3, LOG_INFO, "later");
    char expected[64];
    snprintf(expected, sizeof(expected), "d3 %u lines dropped\r\n", 1000 - burst);
    assert_non_null(strstr(sent, expected));
    for (int i = 0; i < 1000; i++)
        log_guest(3, LOG_INFO, "noise");
    assert_true(lines() < 30);

    drop_sent();
    now += SECONDS(1000000); /* a long silence earns no more than one burst */
    for (int i = 0; i < 1000; i++)
        log_guest(3, LOG_INFO, "noise");
    assert_true(lines() <= burst + 1);
    drop_sent();
    boot_options.guest_loglvl = LOG_WARNING;
    log_guest(9, LOG_INFO, "x");
    assert_int_equal(sent_size, 0);
}

static void on_key(char key)
{
    strncat(pressed, &key, 1);
}

static void test_input(void **state)
{
    char buf[2048];
    console_input_hook = hook;
    type("ls\r");
    assert_int_equal(hook_calls, 3);
    assert_int_equal(console_read(buf, 2), 2);
    assert_memory_equal(buf, "ls", 2);
    assert_int_equal(console_read(buf, sizeof(buf)), 1);
    assert_int_equal(console_read(buf, sizeof(buf)), 0);

    type("\001\001x"); /* fewer than three are domain 0's */
    assert_int_equal(console_read(buf, sizeof(buf)), 3);
    assert_memory_equal(buf, "\001\001x", 3);

    key_register('k', "a key", on_key);
    drop_sent();
    type("\001\001\001kk");
    assert_string_equal(pressed, "kk");
    assert_non_null(strstr(sent, "hypervisor's keys"));
    assert_int_equal(console_read(buf, sizeof(buf)), 0);
    type("~"); /* nobody's */
    assert_non_null(strstr(sent, "no such key '~'"));
    type("\001\001\001k");
    assert_int_equal(console_read(buf, sizeof(buf)), 1);
    assert_string_equal(pressed, "kk");

    for (int i = 0; i < 3000; i++) /* nobody reads: the newest are lost */
        console_receive((char)('a' + i % 26));
    assert_int_equal(console_read(buf, sizeof(buf)), 1024);
    assert_memory_equal(buf, "abcdefghijklm", 13);
}

static void test_nmi(void **state)
{
    drop_sent();
    this_cpu()->in_nmi = 1;
    log_error("from an NMI");
    assert_int_equal(sent_size, 0); /* kept for later */
    assert_true(console_lock());    /* somebody was interrupted in the middle */
    log_error("lost");
    console_unlock();
    this_cpu()->in_nmi = 0;
    log_info("next");
    assert_string_equal(sent, "(trilby) error: from an NMI\r\n"
                              "(trilby) warning: lines of an NMI handler were lost\r\n"
                              "(trilby) next\r\n");
}

/* Last: from here on the lock is not waited for. */
static void test_panicking(void **state)
{
    assert_true(console_lock());
    console_set_panicking();
    drop_sent();
    boot_options.loglvl = -1;
    log_error("the end");
    assert_string_equal(sent, "(trilby) error: the end\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay),     cmocka_unit_test(test_levels),
        cmocka_unit_test(test_raw),        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_rate_limit), cmocka_unit_test(test_input),
        cmocka_unit_test(test_nmi),        cmocka_unit_test(test_panicking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
