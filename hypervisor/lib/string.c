/*
 * Memory and strings (lib/string.h). Called from everywhere, also by the compiler itself and by
 * the decompressors (lib/unpack.c); nothing here takes a lock or fails.
 *
 * Copies are one REP string instruction with the odd bytes moved by overlapping accesses, which is
 * quick for the short copies that dominate and for whole pages alike.
 */
#ifdef HOST_TEST
/* The C library has these names: ours stand beside them so that a test can compare. */
#define memcpy  our_memcpy
#define memmove our_memmove
#define memset  our_memset
#define memcmp  our_memcmp
#define memchr  our_memchr
#define strlen  our_strlen
#define strnlen our_strnlen
#define strcmp  our_strcmp
#define strncmp our_strncmp
#define strchr  our_strchr
#define strstr  our_strstr
#include "lib/compiler.h"
#include "lib/types.h"
#else
#include "lib/string.h"
#undef memcpy
#undef memcmp
#endif

/* Or the compiler turns the loops below into calls of themselves. */
#ifndef __clang__
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

/* Unaligned words, and aliasing whatever they lie in. */
typedef uint64_t __attribute__((may_alias, aligned(1))) word64;
typedef uint32_t __attribute__((may_alias, aligned(1))) word32;
typedef uint16_t __attribute__((may_alias, aligned(1))) word16;

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strstr(const char *hay, const char *needle);
size_t str_copy(char *dst, const char *src, size_t size);
void page_clear(void *page);

/* Up to 8 bytes; everything is loaded before anything is stored, so overlap does not matter. */
static void copy_small(uint8_t *d, const uint8_t *s, size_t n)
{
    if (n >= 4) {
        uint32_t a = *(const word32 *)s, b = *(const word32 *)(s + n - 4);
        *(word32 *)d = a;
        *(word32 *)(d + n - 4) = b;
    } else if (n >= 2) {
        uint16_t a = *(const word16 *)s, b = *(const word16 *)(s + n - 2);
        *(word16 *)d = a;
        *(word16 *)(d + n - 2) = b;
    } else if (n) {
        *d = *s;
    }
}

void *memcpy(void *dst, const void *src, size_t n)
{
    if (n < 8) {
        copy_small(dst, src, n);
        return dst;
    }
    uint64_t last = *(const word64 *)((const uint8_t *)src + n - 8);
    void *d = dst;
    size_t words = n / 8;
    __asm__ volatile("rep movsq" : "+D"(d), "+S"(src), "+c"(words)::"memory");
    *(word64 *)((uint8_t *)dst + n - 8) = last;
    return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
    if ((uint64_t)dst - (uint64_t)src >= n) /* forwards is right, whichever is first */
        return memcpy(dst, src, n);
    if (n < 8) {
        copy_small(dst, src, n);
        return dst;
    }
    /* Backwards by words; the first bytes, fewer than a word, are loaded beforehand. */
    uint64_t first = *(const word64 *)src;
    uint8_t *d = dst;
    const uint8_t *s = src;
    for (size_t i = n; i >= 8; i -= 8)
        *(word64 *)(d + i - 8) = *(const word64 *)(s + i - 8);
    *(word64 *)d = first;
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    uint64_t fill = (uint8_t)c * 0x0101010101010101UL;
    uint8_t *d = dst;
    if (n < 8) {
        while (n--)
            *d++ = (uint8_t)c;
        return dst;
    }
    *(word64 *)(d + n - 8) = fill;
    void *p = dst;
    size_t words = n / 8;
    __asm__ volatile("rep stosq" : "+D"(p), "+c"(words) : "a"(fill) : "memory");
    return dst;
}

void page_clear(void *page)
{
    size_t words = PAGE_SIZE / 8;
    __asm__ volatile("rep stosq" : "+D"(page), "+c"(words) : "a"(0UL) : "memory");
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    while (n >= 8 && *(const word64 *)x == *(const word64 *)y) {
        x += 8;
        y += 8;
        n -= 8;
    }
    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

void *memchr(const void *s, int c, size_t n)
{
    for (const uint8_t *p = s; n; n--, p++)
        if (*p == (uint8_t)c)
            return (void *)p;
    return NULL;
}

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;
    while (n < max && s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (uint8_t)*a - (uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (uint8_t)*a - (uint8_t)*b;
    return 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (!*s)
            return NULL;
    }
}

char *strstr(const char *hay, const char *needle)
{
    size_t n = strlen(needle);
    for (;; hay++) {
        if (!strncmp(hay, needle, n))
            return (char *)hay;
        if (!*hay)
            return NULL;
    }
}

size_t str_copy(char *dst, const char *src, size_t size)
{
    size_t n = strlen(src);
    if (size) {
        size_t copied = n < size - 1 ? n : size - 1;
        memcpy(dst, src, copied);
        dst[copied] = '\0';
    }
    return n;
}
