/*
 * What the decompressors' archives ask of a C library beyond memcpy and its kin (lib/string.c).
 * They are always given their memory by lib/unpack.c, so the heap answers that there is none: a
 * path we do not know of ends as "out of memory" and not in a heap that nobody bounds.
 */
#include "lib/libc_glue.h"
#include "console/console.h"
#include "cpu/asm.h"
#include "lib/stack_guard.h"

extern void (*__init_array_start[])(void), (*__init_array_end[])(void);

void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void free(void *p);
unsigned long long ZSTD_trace_decompress_begin(const void *dctx);
void ZSTD_trace_decompress_end(unsigned long long trace, const void *what);

/* The part of a thread's control block that compiled code touches: the guard at 0x28. */
static struct {
    uint64_t words[8];
} thread_block __initdata;
static uint64_t saved_fs __initdata;
static bool constructed __initdata;

__init void libc_enter(void)
{
    thread_block.words[5] = __stack_chk_guard;
    saved_fs = rdmsr(MSR_FS_BASE);
    wrmsr(MSR_FS_BASE, (uint64_t)&thread_block);
    if (constructed)
        return;
    constructed = true;
    for (void (**fn)(void) = __init_array_start; fn < __init_array_end; fn++)
        (*fn)();
}

__init void libc_leave(void)
{
    wrmsr(MSR_FS_BASE, saved_fs);
}

__init void *malloc(size_t size __unused)
{
    return NULL;
}

__init void *calloc(size_t n __unused, size_t size __unused)
{
    return NULL;
}

__init void free(void *p)
{
    if (p)
        panic("a decompressor gives back memory %p that it was never given", p);
}

/* zstd's tracing hooks are weak; absent they would be at address 0, out of our code's reach. */
__init unsigned long long ZSTD_trace_decompress_begin(const void *dctx __unused)
{
    return 0; /* do not trace this one */
}

__init void ZSTD_trace_decompress_end(unsigned long long trace __unused, const void *what __unused)
{
}
