/*
 * Instructions taken apart: prefixes, REX, opcode, ModRM, SIB, displacement, immediate (APM vol. 3
 * chapter 1). Only the opcodes that execute.c, privileged.c, string.c and vector.c know get
 * through; everything else is EMULATE_UNHANDLED before its operands are looked at.
 */
#include "emulate/internal.h"

#define MAX_LENGTH 15

struct reader {
    struct emulate_ctx *ctx;
    uint8_t bytes[MAX_LENGTH];
    unsigned got, at;
    enum emulate_result failed; /* why next() gave nothing */
};

static bool fetch(struct reader *r)
{
    if (r->at == MAX_LENGTH) {
        r->failed = emulate_raise(r->ctx, VECTOR_GP, 0);
        return false;
    }
    unsigned more = 0, n = MAX_LENGTH - r->got;
    uint64_t addr;
    enum emulate_result res = code_address(r->ctx, r->got, &addr, &n);
    if (res == EMULATE_OK)
        res = r->ctx->ops->fetch(r->ctx, addr, r->bytes + r->got, n, &more);
    if (res != EMULATE_OK || more == 0 || more > n) {
        r->failed = res == EMULATE_OK ? EMULATE_UNHANDLED : res;
        return false;
    }
    r->got += more;
    return true;
}

static inline bool next(struct reader *r, uint8_t *byte)
{
    if (unlikely(r->at == r->got) && !fetch(r))
        return false;
    *byte = r->bytes[r->at++];
    return true;
}

/* @n bytes, little-endian, sign-extended. */
static bool next_value(struct reader *r, unsigned n, uint64_t *value)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) {
        uint8_t byte;
        if (!next(r, &byte))
            return false;
        v |= (uint64_t)byte << 8 * i;
    }
    *value = sign_extend(v, n);
    return true;
}

/* What follows an opcode, and the size of its operands. */
#define KNOWN 1u
#define M     2u /* ModRM */
#define BYTE  4u /* operands of one byte */
#define I8    8u
#define IZ    16u /* immediate of the operand size, at most four bytes */
#define OFFS  32u /* an address in full */
#define LONG  64u /* in 64-bit code only */
#define XMM   128u

static const uint8_t one_byte[256] = {
    [0x63] = KNOWN | M | LONG, /* movsxd */
    [0x6c] = KNOWN | BYTE,     /* ins */
    [0x6d] = KNOWN,
    [0x6e] = KNOWN | BYTE, /* outs */
    [0x6f] = KNOWN,
    [0x80] = KNOWN | M | BYTE | I8, /* arithmetic with immediates */
    [0x81] = KNOWN | M | IZ,
    [0x83] = KNOWN | M | I8,
    [0x84] = KNOWN | M | BYTE, /* test */
    [0x85] = KNOWN | M,
    [0x86] = KNOWN | M | BYTE, /* xchg */
    [0x87] = KNOWN | M,
    [0x88] = KNOWN | M | BYTE, /* mov */
    [0x89] = KNOWN | M,
    [0x8a] = KNOWN | M | BYTE,
    [0x8b] = KNOWN | M,
    [0xa0] = KNOWN | BYTE | OFFS,
    [0xa1] = KNOWN | OFFS,
    [0xa2] = KNOWN | BYTE | OFFS,
    [0xa3] = KNOWN | OFFS,
    [0xa4] = KNOWN | BYTE, /* movs */
    [0xa5] = KNOWN,
    [0xa6] = KNOWN | BYTE, /* cmps */
    [0xa7] = KNOWN,
    [0xa8] = KNOWN | BYTE | I8, /* test */
    [0xa9] = KNOWN | IZ,
    [0xaa] = KNOWN | BYTE, /* stos */
    [0xab] = KNOWN,
    [0xac] = KNOWN | BYTE, /* lods */
    [0xad] = KNOWN,
    [0xae] = KNOWN | BYTE, /* scas */
    [0xaf] = KNOWN,
    [0xc0] = KNOWN | M | BYTE | I8, /* shifts and rotations */
    [0xc1] = KNOWN | M | I8,
    [0xc6] = KNOWN | M | BYTE | I8, /* mov */
    [0xc7] = KNOWN | M | IZ,
    [0xd0] = KNOWN | M | BYTE, /* shifts by one, by cl */
    [0xd1] = KNOWN | M,
    [0xd2] = KNOWN | M | BYTE,
    [0xd3] = KNOWN | M,
    [0xe4] = KNOWN | BYTE | I8, /* in, out */
    [0xe5] = KNOWN | I8,
    [0xe6] = KNOWN | BYTE | I8,
    [0xe7] = KNOWN | I8,
    [0xec] = KNOWN | BYTE,
    [0xed] = KNOWN,
    [0xee] = KNOWN | BYTE,
    [0xef] = KNOWN,
    [0xfa] = KNOWN, /* cli, sti */
    [0xfb] = KNOWN,
    [0xf6] = KNOWN | M | BYTE, /* test, not, neg; test's immediate: see immediate_of() */
    [0xf7] = KNOWN | M,
    [0xfe] = KNOWN | M | BYTE, /* inc, dec */
    [0xff] = KNOWN | M,
};

static const uint8_t two_byte[256] = {
    [0x01] = KNOWN | M, /* invlpg, xsetbv, rdtscp */
    [0x06] = KNOWN,     /* clts */
    [0x09] = KNOWN,     /* wbinvd */
    [0x10 ... 0x13] = KNOWN | M | XMM,
    [0x16 ... 0x17] = KNOWN | M | XMM,
    [0x20] = KNOWN | M, /* mov to and from control and debug registers */
    [0x21] = KNOWN | M,
    [0x22] = KNOWN | M,
    [0x23] = KNOWN | M,
    [0x28 ... 0x29] = KNOWN | M | XMM,
    [0x2b] = KNOWN | M | XMM,
    [0x30] = KNOWN,              /* wrmsr */
    [0x31] = KNOWN,              /* rdtsc */
    [0x32] = KNOWN,              /* rdmsr */
    [0x40 ... 0x4f] = KNOWN | M, /* cmov */
    [0x6e ... 0x6f] = KNOWN | M | XMM,
    [0x7e ... 0x7f] = KNOWN | M | XMM,
    [0x90 ... 0x9f] = KNOWN | M | BYTE, /* set */
    [0xa2] = KNOWN,                     /* cpuid */
    [0xa3] = KNOWN | M,                 /* bt */
    [0xab] = KNOWN | M,                 /* bts */
    [0xae] = KNOWN | M,                 /* clflush */
    [0xb0] = KNOWN | M | BYTE,          /* cmpxchg */
    [0xb1] = KNOWN | M,
    [0xb3] = KNOWN | M, /* btr */
    [0xb6] = KNOWN | M, /* movzx */
    [0xb7] = KNOWN | M,
    [0xba] = KNOWN | M | I8, /* bt, bts, btr, btc */
    [0xbb] = KNOWN | M,      /* btc */
    [0xbe] = KNOWN | M,      /* movsx */
    [0xbf] = KNOWN | M,
    [0xc0] = KNOWN | M | BYTE, /* xadd */
    [0xc1] = KNOWN | M,
    [0xc3] = KNOWN | M, /* movnti */
    [0xc7] = KNOWN | M, /* cmpxchg8b, cmpxchg16b */
    [0xd6] = KNOWN | M | XMM,
    [0xe7] = KNOWN | M | XMM,
    [0xf0] = KNOWN | M | XMM,
};

static unsigned attributes(const struct insn *in)
{
    if (in->two_byte)
        return two_byte[in->opcode];
    if (in->opcode < 0x40) { /* eight rows of arithmetic, six forms each */
        static const uint8_t forms[8] = {KNOWN | M | BYTE,
                                         KNOWN | M,
                                         KNOWN | M | BYTE,
                                         KNOWN | M,
                                         KNOWN | BYTE | I8,
                                         KNOWN | IZ,
                                         0,
                                         0};
        return forms[in->opcode & 7];
    }
    return one_byte[in->opcode];
}

/* False: it is none. In 64-bit code ES, CS, SS and DS mean nothing as prefixes. */
static bool segment_prefix(struct insn *in, uint8_t b, bool wide)
{
    enum emulate_seg seg;
    switch (b) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
        seg = SEG_ES + (b >> 3 & 3);
        if (wide)
            return true;
        break;
    case 0x64:
    case 0x65:
        seg = b == 0x64 ? SEG_FS : SEG_GS;
        break;
    default:
        return false;
    }
    in->seg_override = true;
    in->seg = seg;
    return true;
}

static bool decode_prefixes(struct reader *r, struct insn *in)
{
    bool wide = r->ctx->code == EMULATE_CODE64, other_address = false;
    uint8_t b;
    in->address = wide ? 8 : r->ctx->code == EMULATE_CODE32 ? 4 : 2;
    for (;;) {
        if (!next(r, &b))
            return false;
        switch (b) {
        case 0x66:
            in->operand16 = true;
            break;
        case 0x67:
            if (!other_address)
                in->address = in->address == 4 ? 2 : 4;
            other_address = true;
            break;
        case 0xf0:
            in->lock = true;
            break;
        case 0xf2:
            in->repne = true;
            in->rep = false;
            break;
        case 0xf3:
            in->rep = true;
            in->repne = false;
            break;
        default:
            if (segment_prefix(in, b, wide))
                break;
            if (wide && (b & 0xf0) == 0x40) { /* counts only right before the opcode */
                in->rex = b;
                continue;
            }
            in->opcode = b;
            if (b != 0x0f)
                return true;
            in->two_byte = true;
            return next(r, &in->opcode);
        }
        in->rex = 0;
    }
}

static uint64_t base_reg(const struct emulate_ctx *ctx, unsigned n)
{
    return *reg_slot(ctx->regs, n);
}

/* Addresses of 16 bits (APM vol. 3 table A-33): base and index are given, there is no SIB. */
static bool decode_address16(struct reader *r, struct insn *in)
{
    static const uint8_t base[8] = {REG_RBX, REG_RBX, REG_RBP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_RBP, REG_RBX};
    unsigned rm = in->rm & 7, disp_size = in->mod;
    bool has_base = rm != 6 || in->mod;
    uint64_t disp = 0;
    if (has_base) {
        in->ea = base_reg(r->ctx, base[rm]);
        if (!in->seg_override && base[rm] == REG_RBP)
            in->seg = SEG_SS;
    } else {
        disp_size = 2;
    }
    if (rm < 4)
        in->ea += base_reg(r->ctx, rm & 1 ? REG_RDI : REG_RSI);
    if (disp_size && !next_value(r, disp_size, &disp))
        return false;
    in->ea += disp;
    return true;
}

/* @relative: the displacement is from the end of the instruction, added when that is known. */
static bool decode_address(struct reader *r, struct insn *in, bool *relative)
{
    uint8_t sib, rm = in->rm & 7;
    uint64_t disp = 0;
    unsigned base = in->rm, disp_size = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0;
    bool has_base = true;
    if (rm == 4) {
        if (!next(r, &sib))
            return false;
        unsigned index = (sib >> 3 & 7) | (in->rex & 2 ? 8 : 0);
        base = (sib & 7) | (in->rex & 1 ? 8 : 0);
        if (index != REG_RSP)
            in->ea = base_reg(r->ctx, index) << (sib >> 6);
        if ((sib & 7) == 5 && in->mod == 0) {
            has_base = false;
            disp_size = 4;
        }
    } else if (rm == 5 && in->mod == 0) {
        has_base = false;
        disp_size = 4;
        *relative = r->ctx->code == EMULATE_CODE64;
    }
    if (has_base) {
        in->ea += base_reg(r->ctx, base);
        if (!in->seg_override && (base == REG_RSP || base == REG_RBP))
            in->seg = SEG_SS;
    }
    if (disp_size && !next_value(r, disp_size, &disp))
        return false;
    in->ea += disp;
    return true;
}

static bool decode_modrm(struct reader *r, struct insn *in, bool *relative)
{
    uint8_t modrm;
    if (!next(r, &modrm))
        return false;
    in->mod = modrm >> 6;
    in->reg = (modrm >> 3 & 7) | (in->rex & 4 ? 8 : 0);
    in->rm = (modrm & 7) | (in->rex & 1 ? 8 : 0);
    if (in->two_byte && in->opcode >= 0x20 && in->opcode <= 0x23)
        in->mod = 3; /* mov of control and debug registers knows no memory (APM vol. 3) */
    if (in->mod == 3)
        return true;
    in->is_mem = true;
    return in->address == 2 ? decode_address16(r, in) : decode_address(r, in, relative);
}

static unsigned operand_size(const struct emulate_ctx *ctx, const struct insn *in, unsigned attr)
{
    if (attr & BYTE)
        return 1;
    if (in->rex & 8)
        return 8;
    return in->operand16 == (ctx->code == EMULATE_CODE16) ? 4 : 2;
}

static unsigned immediate_of(const struct insn *in, unsigned attr)
{
    unsigned z = in->size == 8 ? 4 : in->size;
    if (attr & I8)
        return 1;
    if (attr & IZ)
        return z;
    if (!in->two_byte && (in->opcode == 0xf6 || in->opcode == 0xf7) && (in->reg & 7) < 2)
        return z;
    return 0;
}

enum emulate_result insn_decode(struct emulate_ctx *ctx, struct insn *in)
{
    struct reader r = {.ctx = ctx};
    bool relative = false;
    *in = (struct insn){.seg = SEG_DS};

    if (!decode_prefixes(&r, in))
        return r.failed;
    unsigned attr = attributes(in);
    if (!(attr & KNOWN) || ((attr & LONG) && ctx->code != EMULATE_CODE64))
        return EMULATE_UNHANDLED;
    in->size = operand_size(ctx, in, attr);
    in->is_vector = attr & XMM;
    if ((attr & M) && !decode_modrm(&r, in, &relative))
        return r.failed;
    if (attr & OFFS) {
        in->is_mem = true;
        if (!next_value(&r, in->address, &in->ea))
            return r.failed;
    }
    unsigned imm = immediate_of(in, attr);
    if (imm && !next_value(&r, imm, &in->imm))
        return r.failed;
    in->length = r.at;
    if (relative)
        in->ea += ctx->regs->rip + in->length;
    in->ea &= size_mask(in->address);
    ctx->length = in->length;
    return EMULATE_OK;
}
