/*
 * Formatted output (lib/printf.h), pure. Directives that are unknown or floating point are shown
 * as they stand, their argument is not consumed.
 */
#ifdef HOST_TEST
/* Beside the C library's, so that a test can compare. */
#define vsnprintf our_vsnprintf
#define snprintf  our_snprintf
#include <stdarg.h>
#include "lib/compiler.h"
#include "lib/types.h"
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);
int snprintf(char *buf, size_t size, const char *fmt, ...);
uint64_t str_to_u64(const char *s, const char **end);
const char *symbol_find(uint64_t addr, uint64_t *offset);
#else
#include "lib/printf.h"
#include "cpu/cpu.h"
#endif

struct out {
    char *buf;
    size_t size, length; /* length counts what did not fit too */
};

struct spec {
    bool left, zero, plus, space, alternate;
    int width, precision; /* precision < 0: none given */
    int bytes;            /* of an integer argument */
};

static void put(struct out *o, char c)
{
    if (o->length + 1 < o->size)
        o->buf[o->length] = c;
    o->length++;
}

static void pad(struct out *o, char c, int n)
{
    while (n-- > 0)
        put(o, c);
}

static void put_string(struct out *o, const struct spec *s, const char *text)
{
    if (!text)
        text = "(null)";
    int n = 0;
    while ((s->precision < 0 || n < s->precision) && text[n])
        n++;
    if (!s->left)
        pad(o, ' ', s->width - n);
    for (int i = 0; i < n; i++)
        put(o, text[i]);
    if (s->left)
        pad(o, ' ', s->width - n);
}

/* @prefix: sign or 0x, "" when none. */
static void put_number(struct out *o, const struct spec *s, uint64_t v, unsigned base, bool upper,
                       const char *prefix)
{
    char digits[24]; /* 22 octal digits at most */
    int n = 0;
    for (uint64_t rest = v; rest; rest /= base)
        digits[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[rest % base];
    if (!n && s->precision != 0)
        digits[n++] = '0';

    int zeros = s->precision > n ? s->precision - n : 0;
    if (base == 8 && s->alternate && !zeros && (!n || digits[n - 1] != '0'))
        zeros = 1;
    int prefix_len = 0;
    while (prefix[prefix_len])
        prefix_len++;
    int fill = s->width - n - zeros - prefix_len;
    if (s->zero && !s->left && s->precision < 0 && fill > 0) {
        zeros += fill;
        fill = 0;
    }

    if (!s->left)
        pad(o, ' ', fill);
    while (*prefix)
        put(o, *prefix++);
    pad(o, '0', zeros);
    while (n)
        put(o, digits[--n]);
    if (s->left)
        pad(o, ' ', fill);
}

static void put_signed(struct out *o, const struct spec *s, int64_t v)
{
    const char *sign = v < 0 ? "-" : s->plus ? "+" : s->space ? " " : "";
    put_number(o, s, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, false, sign);
}

/* %pS: symbol+0xoffset, or the address when nobody knows it. */
static void put_symbol(struct out *o, uint64_t addr)
{
    struct spec plain = {.precision = -1};
    uint64_t offset = 0;
    const char *name = symbol_find(addr, &offset);
    if (name && name[0] != '?') {
        put_string(o, &plain, name);
        put(o, '+');
        put_number(o, &plain, offset, 16, false, "0x");
    } else {
        put_number(o, &plain, addr, 16, false, "0x");
    }
}

static const char *parse_flags(const char *f, struct spec *s)
{
    for (;; f++) {
        switch (*f) {
        case '-':
            s->left = true;
            break;
        case '0':
            s->zero = true;
            break;
        case '+':
            s->plus = true;
            break;
        case ' ':
            s->space = true;
            break;
        case '#':
            s->alternate = true;
            break;
        default:
            return f;
        }
    }
}

static const char *parse_digits(const char *f, int *value)
{
    int v = 0;
    while (*f >= '0' && *f <= '9') {
        if (v < 100000) /* wider than anything sensible is cut off there */
            v = v * 10 + (*f - '0');
        f++;
    }
    *value = v;
    return f;
}

static const char *parse_length(const char *f, struct spec *s)
{
    s->bytes = sizeof(int);
    if (f[0] == 'h') {
        s->bytes = f[1] == 'h' ? 1 : 2;
        return f + (f[1] == 'h' ? 2 : 1);
    }
    if (f[0] == 'l' || f[0] == 'z' || f[0] == 'j' || f[0] == 't') {
        s->bytes = 8;
        return f + (f[0] == 'l' && f[1] == 'l' ? 2 : 1);
    }
    return f;
}

/* All variadic integers arrive promoted to int or as 64 bits; h and hh cut them again. */
static uint64_t cut_unsigned(uint64_t v, int bytes)
{
    return bytes == 8 ? v : v & ((1UL << (bytes * 8)) - 1);
}

static int64_t cut_signed(int64_t v, int bytes)
{
    return bytes == 1 ? (int8_t)v : bytes == 2 ? (int16_t)v : bytes == 4 ? (int32_t)v : v;
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list args)
{
    struct out o = {buf, size, 0};
    va_list ap;
    va_copy(ap, args);

    for (const char *f = fmt; *f; f++) {
        if (*f != '%') {
            put(&o, *f);
            continue;
        }
        const char *directive = f;
        struct spec s = {.precision = -1};
        f = parse_flags(f + 1, &s);
        if (*f == '*') {
            s.width = va_arg(ap, int);
            if (s.width < 0) {
                s.left = true;
                s.width = -s.width;
            }
            f++;
        } else {
            f = parse_digits(f, &s.width);
        }
        if (*f == '.') {
            if (f[1] == '*') {
                s.precision = va_arg(ap, int);
                f += 2;
            } else {
                f = parse_digits(f + 1, &s.precision);
            }
        }
        f = parse_length(f, &s);

        uint64_t v;
        switch (*f) {
        case 'd':
        case 'i':
            put_signed(&o, &s,
                       cut_signed(s.bytes == 8 ? va_arg(ap, int64_t) : va_arg(ap, int), s.bytes));
            break;
        case 'u':
        case 'x':
        case 'X':
        case 'o':
            v = cut_unsigned(s.bytes == 8 ? va_arg(ap, uint64_t) : va_arg(ap, unsigned), s.bytes);
            if (*f == 'u')
                put_number(&o, &s, v, 10, false, "");
            else if (*f == 'o')
                put_number(&o, &s, v, 8, false, "");
            else
                put_number(&o, &s, v, 16, *f == 'X',
                           !s.alternate || !v ? ""
                           : *f == 'X'        ? "0X"
                                              : "0x");
            break;
        case 'c': {
            char text[2] = {(char)va_arg(ap, int), '\0'};
            s.precision = 1;
            if (text[0]) {
                put_string(&o, &s, text);
            } else {
                pad(&o, ' ', s.left ? 0 : s.width - 1);
                put(&o, '\0');
                pad(&o, ' ', s.left ? s.width - 1 : 0);
            }
            break;
        }
        case 's':
            put_string(&o, &s, va_arg(ap, const char *));
            break;
        case 'p':
            v = (uint64_t)va_arg(ap, void *);
            if (f[1] == 'S') {
                put_symbol(&o, v);
                f++;
            } else {
                put_number(&o, &s, v, 16, false, "0x");
            }
            break;
        case '%':
            put(&o, '%');
            break;
        default:
            while (directive < f)
                put(&o, *directive++);
            f--; /* the character itself is looked at again; it may be the end */
            break;
        }
    }
    va_end(ap);

    if (size)
        buf[o.length < size ? o.length : size - 1] = '\0';
    return (int)o.length;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, size, fmt, ap);
    va_end(ap);
    return n;
}

uint64_t str_to_u64(const char *s, const char **end)
{
    uint64_t v = 0;
    unsigned base = 10;
    if (s[0] == '0' && (s[1] | 0x20) == 'x') {
        char c = s[2] | 0x20;
        if ((s[2] >= '0' && s[2] <= '9') || (c >= 'a' && c <= 'f')) {
            base = 16;
            s += 2;
        }
    }
    for (;; s++) {
        unsigned digit = *s >= '0' && *s <= '9' ? (unsigned)(*s - '0')
                         : (*s | 0x20) >= 'a' && (*s | 0x20) <= 'f'
                             ? (unsigned)((*s | 0x20) - 'a' + 10)
                             : 16;
        if (digit >= base)
            break;
        /* Too large a number stays at the largest, rather than becoming a small one. */
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, digit, &v)) {
            v = ~0UL;
            while ((*s >= '0' && *s <= '9') ||
                   (base == 16 && (*s | 0x20) >= 'a' && (*s | 0x20) <= 'f'))
                s++;
            break;
        }
    }
    if (end)
        *end = s;
    return v;
}
