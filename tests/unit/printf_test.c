/* SOURCES: lib/printf.c */
/* Ours beside the C library's on every directive we promise; what is ours alone; numbers read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "lib/printf.h"

int our_snprintf(char *buf, size_t size, const char *fmt, ...);
const char *symbol_find(uint64_t addr, uint64_t *offset);

const char *symbol_find(uint64_t addr, uint64_t *offset)
{
    *offset = addr - 0x1000;
    return addr >= 0x1000 && addr < 0x2000 ? "page_get" : "?";
}

#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-zero-length"
#pragma GCC diagnostic ignored "-Wformat-truncation"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

#define SAME(...)                                                                                  \
    do {                                                                                           \
        char ours[128], theirs[128];                                                               \
        memset(ours, 'x', sizeof(ours));                                                           \
        int n = our_snprintf(ours, sizeof(ours), __VA_ARGS__);                                     \
        assert_int_equal(n, snprintf(theirs, sizeof(theirs), __VA_ARGS__));                        \
        assert_string_equal(ours, theirs);                                                         \
    } while (0)

static void test_integers(void **state)
{
    static const char *const flags[] = {"", "-", "0", "+", " ", "#", "-0", "+0", "#0", "-#", "+-"};
    static const char *const widths[] = {"", "1", "5", "12", ".0", ".3", "8.5", "3.6", ".10"};
    static const long values[] = {0, 1, -1, 7, 8, 42, -12345, 0x7fffffff, -0x80000000L};
    for (size_t f = 0; f < ARRAY_SIZE(flags); f++) {
        for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
            for (const char *c = "diuxXo"; *c; c++) {
                char fmt[32];
                for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                    snprintf(fmt, sizeof(fmt), "<%%%s%s%c>", flags[f], widths[w], *c);
                    SAME(fmt, (int)values[v]);
                    snprintf(fmt, sizeof(fmt), "<%%%s%sl%c>", flags[f], widths[w], *c);
                    SAME(fmt, values[v]);
                    SAME(fmt, (long)((unsigned long)values[v] * 0x100000001UL));
                    snprintf(fmt, sizeof(fmt), "<%%%s%shh%c>", flags[f], widths[w], *c);
                    SAME(fmt, (int)values[v]);
                }
            }
        }
    }
    SAME("%hd %hu %hx", 70000, 70000, -1);
    SAME("%zu %zx %llu %lld", (size_t)-1, (size_t)5, 1ULL << 63, -5LL);
    SAME("%ld %lu", INT64_MIN, UINT64_MAX);
    SAME("%lo", UINT64_MAX);
    SAME("%*d|%-*d|%.*x", 6, 1, 6, 2, 3, 4);
    SAME("%*d", -6, 1);
}

static void test_text(void **state)
{
    SAME("");
    SAME("100%% of %s", "it");
    SAME("%10s|%-10s|%.2s|%10.3s|", "abc", "abc", "abc", "abcdef");
    SAME("%c%5c%-5c|", 'a', 'b', 'c');
    SAME("%p", (void *)0x1234);
    char buf[32];
    our_snprintf(buf, sizeof(buf), "%s", (char *)NULL);
    assert_string_equal(buf, "(null)");
}

static void test_truncation(void **state)
{
    char buf[8] = "zzzzzzz";
    assert_int_equal(our_snprintf(buf, 4, "%d-%s", 12, "abcdef"), 9);
    assert_string_equal(buf, "12-");
    assert_int_equal(buf[4], 'z');
    assert_int_equal(our_snprintf(buf, 1, "%d", 12345), 5);
    assert_string_equal(buf, "");
    assert_int_equal(our_snprintf(NULL, 0, "%5000d", 1), 5000);
}

static void test_ours(void **state)
{
    char buf[64];
    our_snprintf(buf, sizeof(buf), "%pS %pS.", (void *)0x1010, (void *)0x99);
    assert_string_equal(buf, "page_get+0x10 0x99.");
    /* Not known: shown as they are, nothing consumed; a lone % at the end too. */
    our_snprintf(buf, sizeof(buf), "%5y %d %", 3);
    assert_string_equal(buf, "%5y 3 %");
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
        size_t used;
    } cases[] = {
        {"0", 0, 1},
        {"123abc", 123, 3},
        {"0x1fG", 0x1f, 4},
        {"0XaB", 0xab, 4},
        {"", 0, 0},
        {"x", 0, 0},
        {"-1", 0, 0},
        {"0x", 0, 1},
        {"0xg", 0, 1},
        {"08", 8, 2},
        {"18446744073709551615", UINT64_MAX, 20},
        {"18446744073709551616M", UINT64_MAX, 20},
        {"99999999999999999999999", UINT64_MAX, 23},
        {"0x1ffffffffffffffffz", UINT64_MAX, 19},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *end;
        assert_int_equal(str_to_u64(cases[i].text, &end), cases[i].value);
        assert_int_equal(end - cases[i].text, cases[i].used);
    }
    assert_int_equal(str_to_u64("7", NULL), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),   cmocka_unit_test(test_text),
        cmocka_unit_test(test_truncation), cmocka_unit_test(test_ours),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
