/*
 * Calling code that was compiled for a C library: Debian's decompressors (lib/unpack.c).
 *
 * They read their stack protector's guard at %fs:0x28 (System V ABI's TLS), use SSE2 and have
 * constructors. libc_enter() points FS at a small block of our own and runs the constructors the
 * first time; libc_leave() takes FS back. Boot CPU only, while no guest's FPU or FS is live.
 */
#ifndef LIB_LIBC_GLUE_H
#define LIB_LIBC_GLUE_H

#ifdef HOST_TEST
static inline void libc_enter(void)
{
}
static inline void libc_leave(void)
{
}
#else
void libc_enter(void);
void libc_leave(void);
#endif

#endif
