/* Numbers for translations of guests: see hvm/tag.h. */
#include "hvm/tag.h"

struct hvm_tags hvm_tags[MAX_CPUS];

uint32_t hvm_tag_new(struct hvm_tag *t, uint32_t end)
{
    unsigned cpu = this_cpu()->id;
    struct hvm_tags *tags = &hvm_tags[cpu];
    uint64_t flush = tlb_last_flush();
    if (!tags->generation || tags->flush_seen != flush || tags->next >= end) {
        tags->flush_seen = flush;
        tags->generation++;
        tags->next = HVM_TAG_FIRST;
    }
    t->cpu = cpu;
    t->generation = tags->generation;
    return tags->next++;
}
