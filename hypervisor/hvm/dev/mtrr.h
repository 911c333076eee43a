/*
 * The memory type range registers of one CPU (Intel SDM vol. 3 section 12.11, APM vol. 2 section
 * 7.7): eight variable ranges, the fixed ones below 1 MiB, the default. They are kept and checked
 * as a CPU would, and that is all: RAM of a guest is write-back in the nested page tables, and what
 * the guest's own page tables choose from its PAT goes before that.
 */
#ifndef HVM_DEV_MTRR_H
#define HVM_DEV_MTRR_H

#include "lib/compiler.h"
#include "lib/types.h"

#include <xen/hvm/save.h>

#define MTRR_FIRST     0x200 /* MSRs: base and mask of range 0 */
#define MTRR_DEFAULT   0x2ff
#define MTRR_CAP       0xfe
#define PAT_RESET      0x0007040600070406UL
#define MTRR_E         (1u << 11) /* of the default: the registers are on */
#define MTRR_TYPE_BACK 6

struct mtrr {
    uint64_t variable[MTRR_VCNT * 2]; /* base, mask */
    uint64_t fixed[NUM_FIXED_MSR];
    uint64_t def;
};

bool mtrr_is(uint32_t msr); /* one of these registers */
/* -XEN_EPERM: #GP. @phys_bits: how wide the guest's physical addresses are. */
int __must_check mtrr_read(const struct mtrr *m, uint32_t msr, uint64_t *value);
int __must_check mtrr_write(struct mtrr *m, uint32_t msr, uint64_t value, unsigned phys_bits);
bool pat_ok(uint64_t value);

/* Records; the PAT in them is the caller's. */
void mtrr_save(const struct mtrr *m, struct hvm_hw_mtrr *out);
int __must_check mtrr_check(const struct hvm_hw_mtrr *in, unsigned phys_bits);
void mtrr_load(struct mtrr *m, const struct hvm_hw_mtrr *in);

#endif
