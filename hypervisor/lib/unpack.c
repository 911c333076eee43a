/*
 * Takes a kernel out of what it is wrapped in (lib/unpack.h). The wrapper is recognised by its
 * magic; how large the result is stands in the last four bytes of a bzImage's payload (Linux
 * appends it, gzip has it anyway), in a plain file it is found as each format allows. One output
 * buffer of that size is taken from the arena, and each library decodes in one call into it.
 *
 * The libraries' declarations are repeated here because their headers drag in a C library's; the
 * unit test runs them against the real ones.
 */
#include "lib/unpack.h"
#include "lib/libc_glue.h"
#include "lib/string.h"

/* No kernel unpacks to more; a larger size is a corrupt one. */
#define OUTPUT_MAX (1UL << 30)

/* --- zlib.h --- */
typedef struct {
    const uint8_t *next_in;
    unsigned avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *opaque, unsigned items, unsigned size);
    void (*zfree)(void *opaque, void *p);
    void *opaque;
    int data_type;
    unsigned long adler, reserved;
} zlib_stream;
_Static_assert(sizeof(zlib_stream) == 112, "z_stream; inflateInit2_() checks it too");
#define ZLIB_FINISH     4
#define ZLIB_STREAM_END 1
#define ZLIB_MEM_ERROR  (-4)
#define ZLIB_GZIP       (16 + 15) /* window bits: gzip wrapper, largest window */
int inflateInit2_(zlib_stream *s, int window_bits, const char *version, int stream_size);
int inflate(zlib_stream *s, int flush);

/* --- lzma/base.h, lzma/container.h --- */
typedef struct {
    void *(*alloc)(void *opaque, size_t nmemb, size_t size);
    void (*free)(void *opaque, void *p);
    void *opaque;
} xz_allocator;
#define XZ_OK        0
#define XZ_MEM_ERROR 5
int lzma_stream_buffer_decode(uint64_t *memlimit, uint32_t flags, const xz_allocator *allocator,
                              const uint8_t *in, size_t *in_pos, size_t in_size, uint8_t *out,
                              size_t *out_pos, size_t out_size);

/* --- zstd.h --- */
#define ZSTD_SIZE_UNKNOWN (~0UL)
size_t ZSTD_findFrameCompressedSize(const void *src, size_t size);
unsigned long long ZSTD_getFrameContentSize(const void *src, size_t size);
unsigned long long ZSTD_decompressBound(const void *src, size_t size);
unsigned ZSTD_isError(size_t code);
size_t ZSTD_estimateDCtxSize(void);
void *ZSTD_initStaticDCtx(void *workspace, size_t size);
size_t ZSTD_decompressDCtx(void *dctx, void *dst, size_t capacity, const void *src, size_t size);

/* --- lz4.h --- */
int LZ4_decompress_safe(const char *src, char *dst, int size, int capacity);
#define LZ4_LEGACY_MAGIC 0x184c2102u /* doc/lz4_Frame_format.md, "Legacy frame" */
#define LZ4_LEGACY_BLOCK (8UL << 20)

struct job {
    const uint8_t *in;
    size_t in_size;
    uint64_t out_size; /* 0 = the format must tell */
    const struct unpack_arena *arena;
    uint8_t *out;
    size_t out_used;
};

static uint16_t le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static int fail(const char **why, const char *phrase, int rc)
{
    *why = phrase;
    return rc;
}

/* The output buffer, when its size is plausible. */
static int take_output(struct job *j, uint64_t size, const char **why)
{
    if (!size || size > OUTPUT_MAX)
        return fail(why, "the compressed kernel claims an absurd size: it is corrupt or cut short",
                    -XEN_ENOEXEC);
    j->out = j->arena->alloc(j->arena->opaque, size);
    if (!j->out)
        return fail(why, "no memory to decompress the kernel", -XEN_ENOMEM);
    j->out_size = size;
    return 0;
}

/* The libraries count in items of a size; nothing is given back before the arena as a whole is. */
static void *arena_array(const struct unpack_arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    void *p = arena->alloc(arena->opaque, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

static void *zlib_alloc(void *opaque, unsigned n, unsigned size)
{
    return arena_array(opaque, n, size);
}

static void *xz_alloc(void *opaque, size_t n, size_t size)
{
    return arena_array(opaque, n, size);
}

static void arena_keep(void *opaque __unused, void *p __unused)
{
}

static int unpack_gzip(struct job *j, const char **why)
{
    /* RFC 1952: the length modulo 2^32 ends the file. */
    if (j->in_size < 18 || j->in_size > UINT32_MAX)
        return fail(why, "the gzip data is cut short", -XEN_ENOEXEC);
    int rc = take_output(j, j->out_size ? j->out_size : le32(j->in + j->in_size - 4), why);
    if (rc)
        return rc;
    zlib_stream s = {
        .next_in = j->in,
        .avail_in = (unsigned)j->in_size,
        .next_out = j->out,
        .avail_out = (unsigned)j->out_size,
        .zalloc = zlib_alloc,
        .zfree = arena_keep,
        .opaque = (void *)j->arena,
    };
    int z = inflateInit2_(&s, ZLIB_GZIP, "1.2.11", sizeof(s));
    if (!z)
        z = inflate(&s, ZLIB_FINISH);
    if (z == ZLIB_MEM_ERROR)
        return fail(why, "no memory to decompress the kernel", -XEN_ENOMEM);
    if (z != ZLIB_STREAM_END)
        return fail(why, "the gzip data is corrupt or cut short", -XEN_ENOEXEC);
    j->out_used = s.total_out;
    return 0;
}

/* A variable-length integer of the .xz format (section 1.2); false when it is cut off. */
static bool xz_number(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; *p < end && shift < 63; shift += 7) {
        uint8_t byte = *(*p)++;
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

/* Sum of the uncompressed sizes in the index that ends an .xz file (sections 2.1.2, 4); 0: none. */
static uint64_t xz_size(const uint8_t *in, size_t size)
{
    if (size < 24 || size % 4 || in[size - 2] != 'Y' || in[size - 1] != 'Z')
        return 0;
    uint64_t index_size = ((uint64_t)le32(in + size - 8) + 1) * 4;
    if (index_size > size - 24)
        return 0;
    const uint8_t *end = in + size - 12, *p = end - index_size;
    uint64_t records, packed, unpacked, total = 0;
    if (*p++ != 0 || !xz_number(&p, end, &records))
        return 0;
    for (; records; records--) {
        if (!xz_number(&p, end, &packed) || !xz_number(&p, end, &unpacked) ||
            unpacked > OUTPUT_MAX || total > OUTPUT_MAX)
            return 0;
        total += unpacked;
    }
    return total;
}

static int unpack_xz(struct job *j, const char **why)
{
    int rc = take_output(j, j->out_size ? j->out_size : xz_size(j->in, j->in_size), why);
    if (rc)
        return rc;
    const xz_allocator allocator = {xz_alloc, arena_keep, (void *)j->arena};
    uint64_t limit = ~0UL;
    size_t in_pos = 0;
    int x = lzma_stream_buffer_decode(&limit, 0, &allocator, j->in, &in_pos, j->in_size, j->out,
                                      &j->out_used, j->out_size);
    if (x == XZ_MEM_ERROR)
        return fail(why, "no memory to decompress the kernel", -XEN_ENOMEM);
    if (x != XZ_OK)
        return fail(why, "the xz data is corrupt or cut short", -XEN_ENOEXEC);
    return 0;
}

/* Only the first frame is given to the library: it knows old formats that need a large stack. */
static int unpack_zstd(struct job *j, const char **why)
{
    size_t frame = ZSTD_findFrameCompressedSize(j->in, j->in_size);
    if (ZSTD_isError(frame))
        return fail(why, "the zstd data is corrupt or cut short", -XEN_ENOEXEC);
    uint64_t size = j->out_size;
    if (!size)
        size = ZSTD_getFrameContentSize(j->in, frame);
    if (size == ZSTD_SIZE_UNKNOWN)
        size = ZSTD_decompressBound(j->in, frame);
    int rc = take_output(j, size, why);
    if (rc)
        return rc;
    size_t state_size = ZSTD_estimateDCtxSize();
    void *state = arena_array(j->arena, 1, state_size);
    void *dctx = state ? ZSTD_initStaticDCtx(state, state_size) : NULL;
    if (!dctx)
        return fail(why, "no memory to decompress the kernel", -XEN_ENOMEM);
    j->out_used = ZSTD_decompressDCtx(dctx, j->out, j->out_size, j->in, frame);
    if (ZSTD_isError(j->out_used))
        return fail(why, "the zstd data is corrupt or cut short", -XEN_ENOEXEC);
    return 0;
}

/* The next block of a legacy frame, its magic skipped; false at the end or when cut short. */
static bool lz4_next(const struct job *j, size_t *pos, const uint8_t **block, uint32_t *size)
{
    while (j->in_size - *pos >= 4) {
        uint32_t word = le32(j->in + *pos);
        *pos += 4;
        if (word == LZ4_LEGACY_MAGIC)
            continue;
        if (!word || word > j->in_size - *pos)
            return false;
        *block = j->in + *pos;
        *size = word;
        *pos += word;
        return true;
    }
    return false;
}

static int unpack_lz4(struct job *j, const char **why)
{
    const uint8_t *block;
    uint32_t size;
    uint64_t most = j->out_size;
    size_t pos = 0;
    if (!most)
        while (lz4_next(j, &pos, &block, &size))
            most += LZ4_LEGACY_BLOCK;
    int rc = take_output(j, most, why);
    if (rc)
        return rc;
    pos = 0;
    while (lz4_next(j, &pos, &block, &size)) {
        uint64_t room = min(j->out_size - j->out_used, LZ4_LEGACY_BLOCK);
        int n = LZ4_decompress_safe((const char *)block, (char *)j->out + j->out_used, (int)size,
                                    (int)room);
        if (n < 0)
            return fail(why, "the lz4 data is corrupt", -XEN_ENOEXEC);
        j->out_used += (size_t)n;
    }
    if (pos != j->in_size)
        return fail(why, "the lz4 data is cut short", -XEN_ENOEXEC);
    return 0;
}

static const struct format {
    uint8_t magic[6], length;
    int (*unpack)(struct job *j, const char **why);
} formats[] = {
    {{0x1f, 0x8b}, 2, unpack_gzip},
    {{0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
    {{0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
    {{0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
};

/*
 * Setup header of a bzImage (Documentation/arch/x86/boot.rst): boot flag at 0x1fe, "HdrS" at 0x202,
 * protocol version at 0x206, payload_offset at 0x248 and payload_length at 0x24c from 2.08 on.
 * 0 when it is one and @j is cut to the payload; 1 when it is none.
 */
static int open_bzimage(struct job *j, const char **why)
{
    const uint8_t *h = j->in;
    if (j->in_size < 0x250 || le16(h + 0x1fe) != 0xaa55 || memcmp(h + 0x202, "HdrS", 4))
        return 1;
    if (le16(h + 0x206) < 0x208)
        return fail(why, "the bzImage's boot protocol is older than 2.08", -XEN_ENOEXEC);
    uint64_t setup = ((uint64_t)(h[0x1f1] ? h[0x1f1] : 4) + 1) * 512;
    uint64_t offset = setup + le32(h + 0x248), length = le32(h + 0x24c);
    if (length < 8)
        return fail(why, "the bzImage has no payload", -XEN_ENOEXEC);
    if (offset > j->in_size || length > j->in_size - offset)
        return fail(why, "the bzImage is cut short", -XEN_ENOEXEC);
    j->in += offset;
    j->in_size = length;
    return 0;
}

static bool has_magic(const struct job *j, const void *magic, size_t length)
{
    return j->in_size >= length && !memcmp(j->in, magic, length);
}

int unpack_kernel(const void *data, size_t size, const struct unpack_arena *arena, const void **elf,
                  size_t *elf_size, const char **why)
{
    struct job j = {.in = data, .in_size = size, .arena = arena};
    int wrapped = open_bzimage(&j, why);
    if (wrapped < 0)
        return wrapped;
    if (has_magic(&j, "\177ELF", 4)) {
        *elf = j.in;
        *elf_size = j.in_size;
        return 0;
    }

    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
        const struct format *f = &formats[i];
        if (!has_magic(&j, f->magic, f->length))
            continue;
        if (wrapped == 0) {
            /* Linux appends the size to all but gzip, which ends with it as part of its format. */
            j.out_size = le32(j.in + j.in_size - 4);
            if (f->unpack != unpack_gzip)
                j.in_size -= 4;
        }
        libc_enter();
        int rc = f->unpack(&j, why);
        libc_leave();
        if (rc)
            return rc;
        *elf = j.out;
        *elf_size = j.out_used;
        return 0;
    }
    return fail(why,
                wrapped == 0 ? "the bzImage's payload is compressed in a way not known here"
                             : "not a bzImage, an ELF file or a compressed one",
                -XEN_ENOEXEC);
}
