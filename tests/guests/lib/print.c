/*
 * The console and what C expects of a library. Domain 0 writes through console_io; an ordinary
 * domain through the ring that start_info names (xen/io/console.h).
 */
#include "guest.h"
#include <stdarg.h>
#include <xen/io/console.h>

void *memset(void *to, int c, size_t n)
{
    void *at = to;

    asm volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *at = to;

    asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n)::"memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (uint8_t)*a - (uint8_t)*b;
    return 0;
}

static void ring_write(const char *s, size_t n)
{
    static volatile struct xencons_interface *ring;
    evtchn_send_t send = {.port = start_info->console.domU.evtchn};

    if (!ring)
        ring = window_map(start_info->console.domU.mfn, PTE_KERN);
    if (!ring)
        return;
    while (n) {
        uint32_t prod = ring->out_prod;

        if (prod - ring->out_cons >= sizeof(ring->out)) {
            HC(event_channel_op, EVTCHNOP_send, &send);
            HC(sched_op, SCHEDOP_yield, 0);
            continue;
        }
        ring->out[MASK_XENCONS_IDX(prod, ring->out)] = *s++;
        asm volatile("" ::: "memory");
        ring->out_prod = prod + 1;
        n--;
    }
    HC(event_channel_op, EVTCHNOP_send, &send);
}

void print_raw(const char *s, size_t n)
{
    if (is_dom0())
        HC(console_io, CONSOLEIO_write, n, s);
    else
        ring_write(s, n);
}

struct line {
    char text[512];
    size_t n;
};

static void put(struct line *l, char c)
{
    if (l->n < sizeof(l->text))
        l->text[l->n++] = c;
}

static void put_number(struct line *l, uint64_t v, unsigned base, int width, char pad)
{
    char digits[24];
    int n = 0;

    do
        digits[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    while (width-- > n)
        put(l, pad);
    while (n)
        put(l, digits[--n]);
}

static void put_string(struct line *l, const char *s, int width, int precision)
{
    int n = 0;

    for (; s && s[n] && (precision < 0 || n < precision); n++)
        put(l, s[n]);
    while (n++ < width)
        put(l, ' ');
}

/* %d %i %u %x %p %s %c, with l, z, width, 0 and .precision for strings. */
void print(const char *format, ...)
{
    struct line l = {.n = 0};
    va_list ap;

    va_start(ap, format);
    for (; *format; format++) {
        bool big = false;
        int width = 0, precision = -1;
        char pad = ' ';

        if (*format != '%') {
            put(&l, *format);
            continue;
        }
        if (*++format == '0')
            pad = '0';
        while (*format >= '0' && *format <= '9')
            width = width * 10 + *format++ - '0';
        if (*format == '.') {
            format++;
            precision = 0;
            if (*format == '*') {
                precision = va_arg(ap, int);
                format++;
            }
            while (*format >= '0' && *format <= '9')
                precision = precision * 10 + *format++ - '0';
        }
        while (*format == 'l' || *format == 'z') {
            big = true;
            format++;
        }
        switch (*format) {
        case 'd':
        case 'i': {
            long v = big ? va_arg(ap, long) : va_arg(ap, int);

            if (v < 0)
                put(&l, '-');
            put_number(&l, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, width, pad);
            break;
        }
        case 'u':
        case 'x':
            put_number(&l, big ? va_arg(ap, unsigned long) : va_arg(ap, unsigned),
                       *format == 'u' ? 10 : 16, width, pad);
            break;
        case 'p':
            put_number(&l, (uint64_t)va_arg(ap, void *), 16, width, pad);
            break;
        case 's':
            put_string(&l, va_arg(ap, const char *), width, precision);
            break;
        case 'c':
            put(&l, (char)va_arg(ap, int));
            break;
        default:
            put(&l, *format);
        }
    }
    va_end(ap);
    print_raw(l.text, l.n);
}
