/*
 * Tags of guests' translations in the TLB: SVM's address space numbers (APM vol. 2 section 15.16),
 * VMX's VPIDs.
 *
 * Each CPU hands out numbers of its own, in order, and a vCPU gets a new one when it comes to a
 * CPU. When they are used up, or when this CPU has flushed its TLB for whatever reason (cpu/tlb.c),
 * a new generation begins: all that is known of guests is forgotten at the next entry, and each
 * vCPU gets a new number when it next enters. So a full flush of a CPU includes its guests.
 */
#ifndef HVM_TAG_H
#define HVM_TAG_H

#include "cpu/cpu.h"

struct hvm_tag {         /* of a vCPU; all 0 = none, which forgets what its last one stood for */
    unsigned cpu;        /* that it is a number of */
    uint64_t generation; /* of that CPU */
};

extern struct hvm_tags {
    uint32_t next;
    uint64_t generation; /* 0 = none yet */
    uint64_t flush_seen; /* tlb_last_flush() when it began */
} hvm_tags[MAX_CPUS];    /* [P] */

/*
 * The first number of a generation: all translations of guests must go before the entry with it.
 */
#define HVM_TAG_FIRST 1u

uint32_t hvm_tag_new(struct hvm_tag *t, uint32_t end);

/* Before each entry: the number below @end that @t gets on this CPU, 0 = it keeps the one it has.
 */
static inline uint32_t hvm_tag_choose(struct hvm_tag *t, uint32_t end)
{
    unsigned cpu = this_cpu()->id;
    if (hvm_tags[cpu].flush_seen == tlb_last_flush() && t->cpu == cpu && t->generation &&
        t->generation == hvm_tags[cpu].generation)
        return 0;
    return hvm_tag_new(t, end);
}

#endif
