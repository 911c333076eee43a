/*
 * Instructions of 64-bit mode taken apart: prefixes, REX, opcode, ModRM, SIB, displacement,
 * immediate (APM vol. 3 chapter 1). Only the opcodes that execute.c, privileged.c and string.c know
 * get through; everything else is EMULATE_UNHANDLED before its operands are looked at.
 */
#include "emulate/internal.h"

#define MAX_LENGTH 15

struct reader {
    struct emulate_ctx *ctx;
    uint8_t bytes[MAX_LENGTH];
    unsigned got, at;
    enum emulate_result failed; /* why next() gave nothing */
};

static bool next(struct reader *r, uint8_t *byte)
{
    if (r->at == MAX_LENGTH) {
        r->failed = emulate_raise(r->ctx, VECTOR_GP, 0);
        return false;
    }
    while (r->at >= r->got) {
        unsigned more = 0;
        enum emulate_result res = r->ctx->ops->fetch(r->ctx, r->ctx->regs->rip + r->got,
                                                     r->bytes + r->got, MAX_LENGTH - r->got, &more);
        if (res != EMULATE_OK || more == 0 || more > MAX_LENGTH - r->got) {
            r->failed = res == EMULATE_OK ? EMULATE_UNHANDLED : res;
            return false;
        }
        r->got += more;
    }
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

static const uint8_t one_byte[256] = {
    [0x63] = KNOWN | M,    /* movsxd */
    [0x6c] = KNOWN | BYTE, /* ins */
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
    [0xa8] = KNOWN | BYTE | I8, /* test */
    [0xa9] = KNOWN | IZ,
    [0xaa] = KNOWN | BYTE, /* stos */
    [0xab] = KNOWN,
    [0xc6] = KNOWN | M | BYTE | I8, /* mov */
    [0xc7] = KNOWN | M | IZ,
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
    [0x20] = KNOWN | M, /* mov to and from control and debug registers */
    [0x21] = KNOWN | M,
    [0x22] = KNOWN | M,
    [0x23] = KNOWN | M,
    [0x30] = KNOWN,            /* wrmsr */
    [0x31] = KNOWN,            /* rdtsc */
    [0x32] = KNOWN,            /* rdmsr */
    [0xa2] = KNOWN,            /* cpuid */
    [0xa3] = KNOWN | M,        /* bt */
    [0xab] = KNOWN | M,        /* bts */
    [0xb0] = KNOWN | M | BYTE, /* cmpxchg */
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

static bool decode_prefixes(struct reader *r, struct insn *in)
{
    uint8_t b;
    for (;;) {
        if (!next(r, &b))
            return false;
        switch (b) {
        case 0x66:
            in->operand16 = true;
            break;
        case 0x67:
            in->addr32 = true;
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
        case 0x26: /* es, cs, ss, ds: no meaning in 64-bit mode */
        case 0x2e:
        case 0x36:
        case 0x3e:
            break;
        case 0x64:
        case 0x65:
            in->seg_override = true;
            in->seg = b == 0x64 ? SEG_FS : SEG_GS;
            break;
        case 0x40 ... 0x4f: /* counts only right before the opcode */
            in->rex = b;
            continue;
        default:
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

/* @relative: the displacement is from the end of the instruction, added when that is known. */
static bool decode_modrm(struct reader *r, struct insn *in, bool *relative)
{
    uint8_t modrm, sib;
    uint64_t disp = 0;
    unsigned base, disp_size;
    if (!next(r, &modrm))
        return false;
    in->mod = modrm >> 6;
    in->reg = (modrm >> 3 & 7) | (in->rex & 4 ? 8 : 0);
    in->rm = base = (modrm & 7) | (in->rex & 1 ? 8 : 0);
    if (in->two_byte && in->opcode >= 0x20 && in->opcode <= 0x23)
        in->mod = 3; /* mov of control and debug registers knows no memory (APM vol. 3) */
    if (in->mod == 3)
        return true;

    in->is_mem = true;
    disp_size = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0;
    bool has_base = true;
    if ((modrm & 7) == 4) {
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
    } else if ((modrm & 7) == 5 && in->mod == 0) {
        has_base = false;
        disp_size = 4;
        *relative = true;
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

static unsigned operand_size(const struct insn *in, unsigned attr)
{
    if (attr & BYTE)
        return 1;
    if (in->rex & 8)
        return 8;
    return in->operand16 ? 2 : 4;
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
    if (!(attr & KNOWN))
        return EMULATE_UNHANDLED;
    in->size = operand_size(in, attr);
    if ((attr & M) && !decode_modrm(&r, in, &relative))
        return r.failed;
    if (attr & OFFS) {
        in->is_mem = true;
        if (!next_value(&r, in->addr32 ? 4 : 8, &in->ea))
            return r.failed;
    }
    unsigned imm = immediate_of(in, attr);
    if (imm && !next_value(&r, imm, &in->imm))
        return r.failed;
    in->length = r.at;
    if (relative)
        in->ea += ctx->regs->rip + in->length;
    if (in->addr32)
        in->ea = (uint32_t)in->ea;
    ctx->length = in->length;
    return EMULATE_OK;
}
