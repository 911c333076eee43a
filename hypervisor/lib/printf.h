/*
 * Formatted output to a buffer. %d %i %u %x %X %o %c %s %p %% with flags 0 - + space #, width,
 * precision and the lengths hh h l ll z; and one of our own: %pS prints an address as
 * symbol+offset.
 */
#ifndef LIB_PRINTF_H
#define LIB_PRINTF_H

#include <stdarg.h>
#include "lib/compiler.h"
#include "lib/types.h"

#ifdef HOST_TEST
#include <stdio.h>
#else
/* As C11 7.21.6.12: the length it would have had; always terminates when size > 0. */
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap) __printf(3, 0);
int snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);
#endif

/*
 * Decimal or 0x-hexadecimal, ~0 when it does not fit; *end (unless @end is NULL) is the first
 * character not used: @s itself when there is no digit.
 */
uint64_t str_to_u64(const char *s, const char **end);

#endif
