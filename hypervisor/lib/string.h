/* The usual memory and string functions; semantics of C11 7.24 except where said. */
#ifndef LIB_STRING_H
#define LIB_STRING_H

#include "lib/compiler.h"
#include "lib/types.h"

#ifdef HOST_TEST
#include <string.h>
#else
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

/* A freestanding compiler does not take these for what they are: few bytes are moved in place. */
#define memcpy(dst, src, n) __builtin_memcpy(dst, src, n)
#define memcmp(a, b, n)     __builtin_memcmp(a, b, n)
#endif

/* Copies and always terminates; returns strlen(src) as OpenBSD's does. */
size_t str_copy(char *dst, const char *src, size_t size);

/* Clears one 4 KiB page with the widest stores the integer unit has. */
void page_clear(void *page);

#endif
