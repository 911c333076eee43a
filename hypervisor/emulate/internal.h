/* Shared by the emulator's files: a decoded instruction, registers by number, arithmetic. */
#ifndef EMULATE_INTERNAL_H
#define EMULATE_INTERNAL_H

#include "emulate/emulate.h"

#define VECTOR_UD 6
#define VECTOR_SS 12
#define VECTOR_GP 13

#define FLAG_CF   (1UL << 0)
#define FLAG_PF   (1UL << 2)
#define FLAG_AF   (1UL << 4)
#define FLAG_ZF   (1UL << 6)
#define FLAG_SF   (1UL << 7)
#define FLAG_DF   (1UL << 10)
#define FLAG_OF   (1UL << 11)
#define FLAG_RF   (1UL << 16)

struct insn {
    uint8_t opcode;
    bool two_byte; /* behind 0x0f */
    uint8_t rex;   /* 0 = none */
    bool lock, rep, repne;
    bool operand16;       /* prefix 0x66 */
    bool is_mem;          /* the ModRM operand is memory at seg:ea */
    bool is_vector;       /* moves of XMM registers: `size` means nothing */
    uint8_t reg, mod, rm; /* of ModRM, extended by REX */
    unsigned size;        /* of the operands, bytes: 1, 2, 4, 8 */
    unsigned address;     /* size of addresses: 2, 4, 8 */
    unsigned length;      /* bytes */
    bool seg_override;
    enum emulate_seg seg;
    uint64_t ea;  /* offset within seg */
    uint64_t imm; /* sign-extended */
};

/* Reads and decodes; EMULATE_OK, EXCEPTION (too long, no code there) or UNHANDLED. */
enum emulate_result insn_decode(struct emulate_ctx *ctx, struct insn *in);

/* reg_slot() with its numbers' names; sizes as struct insn. */
enum { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI };
/* @rex: whether numbers 4 to 7 of size 1 are spl.. (true) or ah.. */
uint64_t reg_read(struct cpu_user_regs *regs, unsigned n, unsigned size, bool rex);
void reg_write(struct cpu_user_regs *regs, unsigned n, unsigned size, bool rex, uint64_t v);

static inline uint64_t size_mask(unsigned size)
{
    return size == 8 ? ~0UL : (1UL << 8 * size) - 1;
}
static inline uint64_t sign_extend(uint64_t v, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* The linear address of @offset in @seg, good for @n bytes, or #GP/#SS. */
enum emulate_result linear_address(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t offset,
                                   unsigned n, bool write, uint64_t *addr);
/* Where the byte at @offset from rip is, and in *n how many may be read there; #GP. */
enum emulate_result code_address(struct emulate_ctx *ctx, unsigned offset, uint64_t *addr,
                                 unsigned *n);

/* Order of the first eight: the digit of the opcode group (APM vol. 3 table A-6). */
enum alu_op {
    ALU_ADD,
    ALU_OR,
    ALU_ADC,
    ALU_SBB,
    ALU_AND,
    ALU_SUB,
    ALU_XOR,
    ALU_CMP,
    ALU_TEST,
    ALU_INC,
    ALU_DEC,
    ALU_NOT,
    ALU_NEG,
    ALU_XCHG,
    ALU_BT,
    ALU_BTS,
    ALU_BTR,
    ALU_BTC,
    ALU_ROL, /* these eight: the digit again */
    ALU_ROR,
    ALU_RCL,
    ALU_RCR,
    ALU_SHL,
    ALU_SHR,
    ALU_SAL,
    ALU_SAR,
};
/* The new value of @dst; *flags as the instruction leaves them (undefined ones as most CPUs do). */
uint64_t alu(enum alu_op op, uint64_t dst, uint64_t src, unsigned size, uint64_t *flags);

/* INS, OUTS, MOVS, CMPS, STOS, LODS, SCAS, repeated or not. */
bool string_is(const struct insn *in);
enum emulate_result string_execute(struct emulate_ctx *ctx, const struct insn *in);

/* Moves between XMM registers and memory. */
enum emulate_result vector_execute(struct emulate_ctx *ctx, const struct insn *in);

/* What needs EMULATE_PRIVILEGED. */
bool privileged_is(const struct insn *in);
enum emulate_result privileged_execute(struct emulate_ctx *ctx, const struct insn *in);

/* rip behind the instruction; what single-stepping and breakpoints left in RF is over. */
static inline enum emulate_result insn_done(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t rip = ctx->regs->rip + in->length;
    ctx->regs->rip = ctx->code == EMULATE_CODE64 ? rip : (uint32_t)rip;
    ctx->regs->rflags &= ~FLAG_RF;
    return EMULATE_OK;
}

#endif
