/*
 * Decoding and executing instructions for guests: privileged ones, writes to page tables, accesses
 * to devices. Pure: every effect goes through struct emulate_ops, so it runs on a host under a
 * fuzzer. PV guests need 64-bit code only; hardware-virtualized ones have 16- and 32-bit code too,
 * in real, virtual-8086, protected and compatibility mode: the segments say the difference.
 */
#ifndef EMULATE_EMULATE_H
#define EMULATE_EMULATE_H

#include "lib/compiler.h"
#include "lib/types.h"

enum emulate_result {
    EMULATE_OK,        /* done; ctx->regs advanced */
    EMULATE_UNHANDLED, /* not an instruction we execute; nothing changed */
    EMULATE_EXCEPTION, /* ctx->vector and ctx->error_code are to be injected; nothing changed but
                          what a REP had done before */
    EMULATE_RETRY,     /* rip still names the instruction, which is to be run again: a REP with
                          slices left, or an effect that asks for it */
};

enum emulate_seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

/* What ctx->code says of the code at rip: default sizes of operands and addresses. */
enum emulate_code { EMULATE_CODE64, EMULATE_CODE32, EMULATE_CODE16 };

/* A segment of 16- and 32-bit code as far as accesses go. In real mode everything is allowed. */
struct emulate_segment {
    uint32_t base, limit; /* limit: in bytes */
    bool readable, writable;
    bool expand_down; /* offsets are good above the limit */
    bool big;         /* ... up to 4 GiB, not 64 KiB */
};

struct emulate_ctx;

/* Each returns an enum emulate_result; absent ones make the instruction UNHANDLED. */
struct emulate_ops {
    /* bytes at linear address; *got may be less than n at a fault boundary */
    enum emulate_result (*fetch)(struct emulate_ctx *, uint64_t addr, void *buf, unsigned n,
                                 unsigned *got);
    enum emulate_result (*read)(struct emulate_ctx *, uint64_t addr, void *buf, unsigned n);
    enum emulate_result (*write)(struct emulate_ctx *, uint64_t addr, const void *buf, unsigned n);
    /* Stores @desired if memory still equals *expected; otherwise *expected = what is there. */
    enum emulate_result (*cmpxchg)(struct emulate_ctx *, uint64_t addr, void *expected,
                                   const void *desired, unsigned n);
    enum emulate_result (*seg_base)(struct emulate_ctx *, enum emulate_seg, uint64_t *base);
    enum emulate_result (*segment)(struct emulate_ctx *, enum emulate_seg,
                                   struct emulate_segment *); /* not for 64-bit code */
    enum emulate_result (*io_read)(struct emulate_ctx *, uint16_t port, unsigned size,
                                   uint32_t *value);
    enum emulate_result (*io_write)(struct emulate_ctx *, uint16_t port, unsigned size,
                                    uint32_t value);
    /* Optional, for REP: *count elements between @port and the bytes from @addr on, which are on
       one page. Sets *count to what was done; 0: they are to be done one by one. */
    enum emulate_result (*io_block)(struct emulate_ctx *, uint16_t port, unsigned size, bool in,
                                    uint64_t addr, unsigned *count);
    /* The same for MOVS from *@from to @to, each on one page, and, @from NULL, STOS of @value. */
    enum emulate_result (*mem_block)(struct emulate_ctx *, uint64_t to, const uint64_t *from,
                                     uint64_t value, unsigned size, unsigned *count);
    enum emulate_result (*read_cr)(struct emulate_ctx *, unsigned cr, uint64_t *value);
    enum emulate_result (*write_cr)(struct emulate_ctx *, unsigned cr, uint64_t value);
    enum emulate_result (*read_dr)(struct emulate_ctx *, unsigned dr, uint64_t *value);
    enum emulate_result (*write_dr)(struct emulate_ctx *, unsigned dr, uint64_t value);
    enum emulate_result (*read_msr)(struct emulate_ctx *, uint32_t msr, uint64_t *value);
    enum emulate_result (*write_msr)(struct emulate_ctx *, uint32_t msr, uint64_t value);
    enum emulate_result (*cpuid)(struct emulate_ctx *, uint32_t leaf, uint32_t sub,
                                 uint32_t out[4]);
    enum emulate_result (*invlpg)(struct emulate_ctx *, uint64_t addr);
    enum emulate_result (*wbinvd)(struct emulate_ctx *);
    enum emulate_result (*xsetbv)(struct emulate_ctx *, uint32_t index, uint64_t value);
    enum emulate_result (*set_if)(struct emulate_ctx *, bool on); /* CLI, STI */
    enum emulate_result (*rdtsc)(struct emulate_ctx *, uint64_t *tsc, uint32_t *aux);
    enum emulate_result (*read_xmm)(struct emulate_ctx *, unsigned n, uint8_t value[16]);
    enum emulate_result (*write_xmm)(struct emulate_ctx *, unsigned n, const uint8_t value[16]);
};

#define EMULATE_PRIVILEGED                                                                         \
    (1u << 0)                    /* I/O, CR, DR, MSR, CPUID, INVLPG, WBINVD, CLTS, XSETBV...       \
                                  */
#define EMULATE_MEMORY (1u << 1) /* moves and read-modify-write on memory */

struct emulate_ctx {
    const struct emulate_ops *ops;
    struct cpu_user_regs *regs;
    enum emulate_code code;
    unsigned allow; /* EMULATE_*: classes of instruction that may be executed */
    unsigned cpl;   /* privilege the guest believes it has */
    void *data;     /* the caller's */
    /* out */
    uint8_t vector;
    uint32_t error_code;
    uint64_t fault_addr; /* for a #PF */
    unsigned length;     /* of the instruction, bytes */
};

/* For effects: asks for @vector to be injected. */
static inline enum emulate_result emulate_raise(struct emulate_ctx *ctx, uint8_t vector,
                                                uint32_t error_code)
{
    ctx->vector = vector;
    ctx->error_code = error_code;
    return EMULATE_EXCEPTION;
}

/* General registers by number (APM vol. 3 table 1-10). */
uint64_t *reg_slot(struct cpu_user_regs *regs, unsigned n);

/* Decodes and executes one instruction at regs->rip (one bounded slice of a REP). */
enum emulate_result emulate_one(struct emulate_ctx *ctx);

#endif
