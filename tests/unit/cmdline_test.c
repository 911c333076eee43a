/* SOURCES: boot/cmdline.c lib/string.c lib/printf.c */
/* Each option's good forms, and that bad ones are reported by name and change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "boot/bootinfo.h"
#include "console/console.h"

static struct boot_options initial;
static unsigned complaints;
static char last[512];

void log_print(enum log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(last, sizeof(last), fmt, ap);
    va_end(ap);
    complaints++;
}

const char *symbol_find(uint64_t addr, uint64_t *offset);
const char *symbol_find(uint64_t addr, uint64_t *offset)
{
    return "?";
}

static void parse(const char *line)
{
    boot_options = initial;
    complaints = 0;
    last[0] = '\0';
    cmdline_parse(line);
}

static void good(const char *line)
{
    parse(line);
    if (complaints)
        fail_msg("\"%s\": %s", line, last);
}

/* Reported with @name in the text, once, and without effect. */
static void bad(const char *line, const char *name)
{
    parse(line);
    if (complaints != 1 || !strstr(last, name))
        fail_msg("\"%s\": %u complaints, the last: %s", line, complaints, last);
    assert_memory_equal(&boot_options, &initial, sizeof(initial));
}

static void test_booleans(void **state)
{
    static const char *const yes[] = {"noreboot",     "noreboot=1",    "noreboot=on",
                                      "noreboot=yes", "noreboot=true", "noreboot=enable"};
    static const char *const no[] = {"no-smap", "smap=0",     "smap=off",
                                     "smap=no", "smap=false", "smap=disable"};
    for (unsigned i = 0; i < ARRAY_SIZE(yes); i++) {
        good(yes[i]);
        assert_true(boot_options.noreboot);
        good(no[i]);
        assert_true(boot_options.no_smap);
        assert_false(boot_options.no_smep);
    }
    good("no-noreboot");
    assert_false(boot_options.noreboot);
    good("no-smep smep no-x2apic sync_console");
    assert_false(boot_options.no_smep);
    assert_true(boot_options.no_x2apic && boot_options.sync_console);
    bad("noreboot=2", "noreboot");
    bad("noreboot=", "noreboot");
    bad("no-smap=1", "smap");
    bad("smep=maybe", "smep");
}

static void test_sizes(void **state)
{
    good("mem=4G");
    assert_int_equal(boot_options.mem, 4UL << 30);
    good("mem=512");
    assert_int_equal(boot_options.mem, 512UL << 10);
    good("mem=4096b conring_size=0x40k");
    assert_int_equal(boot_options.mem, 4096);
    assert_int_equal(boot_options.conring_size, 64UL << 10);
    good("mem=1T");
    assert_int_equal(boot_options.mem, 1UL << 40);
    bad("mem=", "mem");
    bad("mem", "mem");
    bad("mem=-5M", "mem");
    bad("mem=5X", "mem");
    bad("mem=5MM", "mem");
    bad("mem=99999999999G", "mem");
    bad("mem=99999999999999999999999", "mem");
}

static void test_dom0_mem(void **state)
{
    good("dom0_mem=1024M");
    assert_int_equal(boot_options.dom0_mem, 1UL << 30);
    assert_int_equal(boot_options.dom0_mem_max, 0);
    good("dom0_mem=min:256M,max:1G");
    assert_int_equal(boot_options.dom0_mem, 0);
    assert_int_equal(boot_options.dom0_mem_min, 256UL << 20);
    assert_int_equal(boot_options.dom0_mem_max, 1UL << 30);
    good("dom0_mem=512M,max:512M");
    assert_int_equal(boot_options.dom0_mem, 512UL << 20);
    assert_int_equal(boot_options.dom0_mem_max, 512UL << 20);
    bad("dom0_mem=", "dom0_mem");
    bad("dom0_mem=-128M", "dom0_mem");
    bad("dom0_mem=max:", "dom0_mem");
    bad("dom0_mem=1G,", "dom0_mem");
    bad("dom0_mem=1G;max:2G", "dom0_mem");
    bad("dom0_mem=2G,max:1G", "dom0_mem");
    bad("dom0_mem=min:2G,max:1G", "dom0_mem");
    bad("dom0_mem=lots", "dom0_mem");
}

static void test_numbers(void **state)
{
    good("maxcpus=4 dom0_max_vcpus=2");
    assert_int_equal(boot_options.maxcpus, 4);
    assert_int_equal(boot_options.dom0_max_vcpus, 2);
    assert_false(boot_options.dom0_vcpus_pin);
    good("dom0_vcpus_pin");
    assert_true(boot_options.dom0_vcpus_pin);
    good("dom0_max_vcpus=2-8");
    assert_int_equal(boot_options.dom0_max_vcpus, 8);
    bad("maxcpus=257", "maxcpus");
    bad("maxcpus=4294967296", "maxcpus");
    bad("maxcpus=two", "maxcpus");
    bad("maxcpus=2x", "maxcpus");
    bad("no-maxcpus", "maxcpus");
    bad("dom0_max_vcpus=8-2", "dom0_max_vcpus");
    bad("dom0_max_vcpus=2-", "dom0_max_vcpus");
    bad("dom0_max_vcpus=1-2-3", "dom0_max_vcpus");
}

static void test_levels(void **state)
{
    good("loglvl=all guest_loglvl=none");
    assert_int_equal(boot_options.loglvl, LOG_DEBUG);
    assert_int_equal(boot_options.guest_loglvl, -1);
    good("loglvl=error guest_loglvl=error/warning");
    assert_int_equal(boot_options.loglvl, LOG_ERROR);
    assert_int_equal(boot_options.guest_loglvl, LOG_WARNING);
    good("loglvl=info loglvl=debug");
    assert_int_equal(boot_options.loglvl, LOG_DEBUG);
    bad("loglvl=", "loglvl");
    bad("loglvl=loud", "loglvl");
    bad("loglvl=warn", "loglvl");
    bad("loglvl=all/none", "loglvl");
    bad("loglvl=error/info/all", "loglvl");
    bad("loglvl=error/", "loglvl");
}

static void test_text(void **state)
{
    good("console=com1,vga com1=38400,8n1 clocksource=hpet");
    assert_string_equal(boot_options.console, "com1,vga");
    assert_string_equal(boot_options.com1, "38400,8n1");
    assert_string_equal(boot_options.clocksource, "hpet");
    bad("clocksource=0123456789abcdef", "clocksource");
    bad("console", "console");
}

static void test_lines(void **state)
{
    good("");
    good("   ");
    good("  noreboot   loglvl=all ");
    assert_true(boot_options.noreboot);
    assert_int_equal(boot_options.loglvl, LOG_DEBUG);
    bad("frobnicate=3", "frobnicate=3");
    bad("no-", "no-");
    bad("=", "=");
    bad("noreboo", "noreboo");
    bad("noreboot2", "noreboot2");
    parse("a b noreboot c");
    assert_int_equal(complaints, 3);
    assert_true(boot_options.noreboot);
    char lengthy[400];
    memset(lengthy, 'x', sizeof(lengthy));
    lengthy[sizeof(lengthy) - 1] = '\0';
    bad(lengthy, "too long");
}

int main(void)
{
    initial = boot_options;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_booleans), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_dom0_mem), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_levels),   cmocka_unit_test(test_text),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
