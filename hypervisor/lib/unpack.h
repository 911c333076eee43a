/*
 * What stands around a kernel: the bzImage wrapper (Linux Documentation/arch/x86/boot.rst) and
 * gzip, xz, zstd or lz4 inside it. The decompressors are Debian's static liblzma, libzstd, liblz4
 * and zlib; this glue gives them memory from a bounded arena. Boot time only.
 */
#ifndef LIB_UNPACK_H
#define LIB_UNPACK_H

#include "lib/compiler.h"
#include "lib/types.h"

/* Memory for the output and for the decoders' state; provided by the caller. */
struct unpack_arena {
    void *(*alloc)(void *opaque, size_t size);
    void *opaque;
};

/*
 * Finds the ELF image in @data: a bzImage's payload, a compressed file, or the file itself.
 * On success *elf and *elf_size describe it (it may lie inside @data).
 * -XEN_ENOEXEC (not recognised, corrupt), -XEN_ENOMEM; *why is a phrase for the log.
 */
int __must_check unpack_kernel(const void *data, size_t size, const struct unpack_arena *arena,
                               const void **elf, size_t *elf_size, const char **why);

#endif
