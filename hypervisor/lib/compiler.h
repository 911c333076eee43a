/* Small words the compiler understands, named once. */
#ifndef LIB_COMPILER_H
#define LIB_COMPILER_H

#define likely(x)      __builtin_expect(!!(x), 1)
#define unlikely(x)    __builtin_expect(!!(x), 0)

#define __must_check   __attribute__((warn_unused_result))
#define __noreturn     __attribute__((noreturn))
#define __packed       __attribute__((packed))
#define __aligned(n)   __attribute__((aligned(n)))
#define __printf(a, b) __attribute__((format(printf, a, b)))
#undef __unused
#define __unused        __attribute__((unused))
#define __noinline      __attribute__((noinline))
#define __uninitialized __attribute__((uninitialized)) /* exempt from -ftrivial-auto-var-init */
#undef __always_inline                                 /* glibc has its own, in host builds */
#define __always_inline inline __attribute__((always_inline))

/* Used only while booting; the memory is given back afterwards (boot/bootinfo.h). */
#ifdef HOST_TEST
#define __init
#define __initdata
#define __ro_after_init
#else
#define __init          __attribute__((section(".init.text"), cold))
#define __initdata      __attribute__((section(".init.data")))
/* Written while booting, mapped read-only from then on. */
#define __ro_after_init __attribute__((section(".data.ro_after_init")))
#endif

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define min(a, b)                                                                                  \
    ({                                                                                             \
        __auto_type min_a = (a);                                                                   \
        __auto_type min_b = (b);                                                                   \
        min_a < min_b ? min_a : min_b;                                                             \
    })
#define max(a, b)                                                                                  \
    ({                                                                                             \
        __auto_type max_a = (a);                                                                   \
        __auto_type max_b = (b);                                                                   \
        max_a > max_b ? max_a : max_b;                                                             \
    })

#define ROUND_UP(x, n)   (((x) + (n)-1) & ~((__typeof__(x))(n)-1))
#define ROUND_DOWN(x, n) ((x) & ~((__typeof__(x))(n)-1))

/* One access, neither split, repeated nor invented: for words that others write. */
#define READ_ONCE(x)     (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

#define barrier()        __asm__ volatile("" ::: "memory")

#endif
