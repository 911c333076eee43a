/* SOURCES: lib/string.c */
/* Ours beside the C library's, over all small lengths, alignments and overlaps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/string.h"

void *our_memcpy(void *dst, const void *src, size_t n);
void *our_memmove(void *dst, const void *src, size_t n);
void *our_memset(void *dst, int c, size_t n);
int our_memcmp(const void *a, const void *b, size_t n);
void *our_memchr(const void *s, int c, size_t n);
size_t our_strlen(const char *s);
size_t our_strnlen(const char *s, size_t max);
int our_strcmp(const char *a, const char *b);
int our_strncmp(const char *a, const char *b, size_t n);
char *our_strchr(const char *s, int c);
char *our_strstr(const char *hay, const char *needle);

static int sign(int v)
{
    return (v > 0) - (v < 0);
}

static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + 3);
}

static void test_copy(void **state)
{
    uint8_t ours[160], theirs[160], from[160];
    fill(from, sizeof(from));
    for (size_t n = 0; n < 70; n++) {
        for (size_t at = 0; at < 17; at++) {
            memset(ours, 0xee, sizeof(ours));
            memset(theirs, 0xee, sizeof(theirs));
            assert_ptr_equal(our_memcpy(ours + at, from + at / 2, n), ours + at);
            memcpy(theirs + at, from + at / 2, n);
            assert_memory_equal(ours, theirs, sizeof(ours));
            our_memset(ours + at, (int)n + 0x100, n);
            memset(theirs + at, (int)n + 0x100, n);
            assert_memory_equal(ours, theirs, sizeof(ours));
        }
    }
}

static void test_move(void **state)
{
    uint8_t ours[200], theirs[200];
    for (size_t n = 0; n < 80; n++) {
        for (size_t src = 0; src < 40; src++) {
            for (size_t dst = 0; dst < 40; dst++) {
                fill(ours, sizeof(ours));
                fill(theirs, sizeof(theirs));
                our_memmove(ours + dst, ours + src, n);
                memmove(theirs + dst, theirs + src, n);
                assert_memory_equal(ours, theirs, sizeof(ours));
            }
        }
    }
}

static void test_compare(void **state)
{
    uint8_t a[64], b[64];
    fill(a, sizeof(a));
    for (size_t n = 0; n < 64; n++) {
        for (size_t differ = 0; differ < 64; differ++) {
            memcpy(b, a, sizeof(b));
            b[differ] ^= 0x80;
            assert_int_equal(sign(our_memcmp(a, b, n)), sign(memcmp(a, b, n)));
            assert_ptr_equal(our_memchr(a, b[differ], n), memchr(a, b[differ], n));
        }
    }
}

static void test_strings(void **state)
{
    static const char *const text[] = {"",    "a",    "ab",  "abc",
                                       "abd", "\xff", "aab", "console=com1,vga"};
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        assert_int_equal(our_strlen(text[i]), strlen(text[i]));
        for (size_t n = 0; n < 6; n++)
            assert_int_equal(our_strnlen(text[i], n), strnlen(text[i], n));
        for (int c = 0; c < 128; c++)
            assert_ptr_equal(our_strchr(text[i], c), strchr(text[i], c));
        for (size_t j = 0; j < sizeof(text) / sizeof(text[0]); j++) {
            assert_int_equal(sign(our_strcmp(text[i], text[j])), sign(strcmp(text[i], text[j])));
            assert_ptr_equal(our_strstr(text[i], text[j]), strstr(text[i], text[j]));
            for (size_t n = 0; n < 5; n++)
                assert_int_equal(sign(our_strncmp(text[i], text[j], n)),
                                 sign(strncmp(text[i], text[j], n)));
        }
    }
    char buf[4] = "xyz";
    assert_int_equal(str_copy(buf, "hello", sizeof(buf)), 5);
    assert_string_equal(buf, "hel");
    assert_int_equal(str_copy(buf, "a", sizeof(buf)), 1);
    assert_string_equal(buf, "a");
    assert_int_equal(str_copy(buf, "b", 0), 1);
    assert_string_equal(buf, "a");
}

static void test_page_clear(void **state)
{
    uint8_t *page = aligned_alloc(4096, 8192);
    memset(page, 0xaa, 8192);
    page_clear(page);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(page[i], 0);
    assert_int_equal(page[4096], 0xaa);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),       cmocka_unit_test(test_move),
        cmocka_unit_test(test_compare),    cmocka_unit_test(test_strings),
        cmocka_unit_test(test_page_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
