/* Memory type range registers (dev/mtrr.h): which bits each may have, and where it is kept. */
#include "hvm/dev/mtrr.h"

#include "lib/string.h"

#define CAP           (MTRR_VCNT | 1u << 8 | 1u << 10) /* fixed ranges, write-combining */
#define DEF_BITS      (0xffUL | 3u << 10)
#define BASE_LOW      0xffUL      /* the type */
#define MASK_LOW      (1UL << 11) /* valid */
#define VARIABLE_LAST (MTRR_FIRST + 2 * MTRR_VCNT - 1)

/* UC, WC, WT, WP, WB. */
static bool type_ok(uint8_t type)
{
    return type <= MTRR_TYPE_BACK && type != 2 && type != 3;
}

static bool types_ok(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        if (!type_ok(value >> 8 * i))
            return false;
    return true;
}

/* The PAT has one more, UC-. */
bool pat_ok(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        uint8_t type = value >> 8 * i;
        if (type != 7 && !type_ok(type))
            return false;
    }
    return true;
}

/* 64 KiB, two of 16 KiB, eight of 4 KiB; -1. */
static int fixed_index(uint32_t msr)
{
    if (msr == 0x250)
        return 0;
    if (msr == 0x258 || msr == 0x259)
        return 1 + (msr & 1);
    return msr >= 0x268 && msr <= 0x26f ? 3 + (int)(msr & 7) : -1;
}

bool mtrr_is(uint32_t msr)
{
    return msr == MTRR_CAP || msr == MTRR_DEFAULT || (msr >= MTRR_FIRST && msr <= VARIABLE_LAST) ||
           fixed_index(msr) >= 0;
}

int mtrr_read(const struct mtrr *m, uint32_t msr, uint64_t *value)
{
    int i = fixed_index(msr);
    if (msr == MTRR_CAP)
        *value = CAP;
    else if (msr == MTRR_DEFAULT)
        *value = m->def;
    else if (msr >= MTRR_FIRST && msr <= VARIABLE_LAST)
        *value = m->variable[msr - MTRR_FIRST];
    else if (i >= 0)
        *value = m->fixed[i];
    else
        return -XEN_EPERM;
    return 0;
}

static bool variable_ok(unsigned n, uint64_t value, unsigned phys_bits)
{
    uint64_t frames = ((1UL << phys_bits) - 1) & ~0xfffUL;
    if (n & 1)
        return !(value & ~(frames | MASK_LOW));
    return !(value & ~(frames | BASE_LOW)) && type_ok(value);
}

static bool def_ok(uint64_t value)
{
    return !(value & ~DEF_BITS) && type_ok(value);
}

int mtrr_write(struct mtrr *m, uint32_t msr, uint64_t value, unsigned phys_bits)
{
    int i = fixed_index(msr);
    if (msr == MTRR_DEFAULT && def_ok(value)) {
        m->def = value;
    } else if (i >= 0 && types_ok(value)) {
        m->fixed[i] = value;
    } else if (msr >= MTRR_FIRST && msr <= VARIABLE_LAST &&
               variable_ok(msr - MTRR_FIRST, value, phys_bits)) {
        m->variable[msr - MTRR_FIRST] = value;
    } else {
        return -XEN_EPERM;
    }
    return 0;
}

/* --- records --- */

void mtrr_save(const struct mtrr *m, struct hvm_hw_mtrr *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->msr_mtrr_var, m->variable, sizeof(m->variable));
    memcpy(out->msr_mtrr_fixed, m->fixed, sizeof(m->fixed));
    out->msr_mtrr_cap = CAP;
    out->msr_mtrr_def_type = m->def;
}

/* Tools that make a record of their own leave the capabilities zero. */
int mtrr_check(const struct hvm_hw_mtrr *in, unsigned phys_bits)
{
    if (!def_ok(in->msr_mtrr_def_type) || !pat_ok(in->msr_pat_cr) ||
        (in->msr_mtrr_cap && in->msr_mtrr_cap != CAP))
        return -XEN_EINVAL;
    for (unsigned i = 0; i < MTRR_VCNT * 2; i++)
        if (!variable_ok(i, in->msr_mtrr_var[i], phys_bits))
            return -XEN_EINVAL;
    for (unsigned i = 0; i < NUM_FIXED_MSR; i++)
        if (!types_ok(in->msr_mtrr_fixed[i]))
            return -XEN_EINVAL;
    return 0;
}

void mtrr_load(struct mtrr *m, const struct hvm_hw_mtrr *in)
{
    memcpy(m->variable, in->msr_mtrr_var, sizeof(m->variable));
    memcpy(m->fixed, in->msr_mtrr_fixed, sizeof(m->fixed));
    m->def = in->msr_mtrr_def_type;
}
