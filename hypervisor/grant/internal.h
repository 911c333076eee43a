/*
 * What the files of grant/ share.
 *
 * A domain's table has two faces. As granter: the shared frames that the guest writes, and beside
 * each entry what is in use of it now (struct active). As grantee: the mappings that it has, by
 * handle (struct mapping). Field letters: [I] immutable once published, [g] the table's lock
 * (RANK_GRANT). No operation holds two tables' locks.
 */
#ifndef GRANT_INTERNAL_H
#define GRANT_INTERNAL_H

#include "grant/grant.h"

#include "console/console.h"
#include "hypercall/guest_access.h"

#define REFS_PER_FRAME          ((unsigned)(PAGE_SIZE / sizeof(struct grant_entry_v1)))
#define HANDLES_PER_FRAME       ((unsigned)(PAGE_SIZE / sizeof(struct mapping)))

#define GRANT_FRAMES_DEFAULT    64
#define GRANT_FRAMES_LIMIT      4096
#define MAPTRACK_FRAMES_DEFAULT 1024
#define MAPTRACK_FRAMES_LIMIT   16384

/*
 * Uses of one grant. While there is any, one reference on the frame's page is held, and while
 * there are writers also one use as WRITABLE; the shared entry says GTF_reading and GTF_writing.
 */
struct active {
    uint32_t frame;            /* [g] */
    uint16_t readers, writers; /* [g] uses of each kind: mappings' halves, copies under way */
    domid_t grantee;           /* [g] */
    uint16_t pad;
};

#define MAPPING_HOST     (1u << 0) /* in the mapper's page tables */
#define MAPPING_DEVICE   (1u << 1) /* told to a device */
#define MAPPING_READONLY (1u << 2)
#define MAPPING_BUSY     (1u << 3) /* being made or ended by one vCPU */
#define MAPPING_PTE      (1u << 4) /* made by the machine address of the entry */
#define MAPPING_APP      (1u << 5) /* for user mode too */
#define MAPPING_HALVES   (MAPPING_HOST | MAPPING_DEVICE)

struct mapping {
    struct domain *granter; /* kept by the use that this is of its grant */
    uint32_t ref;           /* free: index of the next free one */
    uint16_t flags;         /* [a] MAPPING_*; 0 = free */
    uint16_t pad;
};

struct grant_table {
    struct spinlock lock; /* RANK_GRANT */
    struct domain *owner; /* [I] */
    bool closed;          /* [g] dying: grants nothing new, maps nothing new */

    uint64_t uses; /* [g] of its grants by anybody: while there are any, the owner is counted */
    unsigned frames, max_frames;    /* [g], [I] */
    struct grant_entry_v1 **shared; /* [I] array; entries [g] set once */
    struct active **active;         /* [I] array; entries [g] set once */

    unsigned handles;       /* [a, grows under g] that exist */
    unsigned max_track;     /* [I] frames of them */
    struct mapping **track; /* [g] array, made with the first mapping; entries set once */
    uint32_t free_handle;   /* [g] head of the free ones, NO_HANDLE = none */
};
#define NO_HANDLE UINT32_MAX

/* A grant in use by somebody. */
struct grant_use {
    struct domain *granter;
    uint32_t ref;
    bool write;
};

static inline struct mapping *mapping_at(const struct grant_table *t, uint32_t handle)
{
    return &t->track[handle / HANDLES_PER_FRAME][handle % HANDLES_PER_FRAME];
}

static inline struct active *active_at(const struct grant_table *t, uint32_t ref)
{
    return &t->active[ref / REFS_PER_FRAME][ref % REFS_PER_FRAME];
}

/* Makes the table have at least @n frames; lock held. -XEN_EINVAL beyond the limit, -XEN_ENOMEM. */
int __must_check grant_table_grow(struct grant_table *t, unsigned n);

/*
 * One more use of @use by domain @grantee: GNTST_*. On success *frame is the page's frame, and
 * stays until grant_unuse(), and so does the granter, which until here may be borrowed. The
 * granter's lock is taken and left.
 */
int __must_check grant_use(const struct grant_use *use, domid_t grantee, mfn_t *frame);
void grant_unuse(const struct grant_use *use);
/* Of one that the caller holds, which keeps it as it is: no lock. */
mfn_t grant_used_frame(const struct grant_use *use);

/*
 * Hypercall batches: each element has its status. 0 when all were done, more when only so many were
 * as the vCPU is wanted elsewhere, an errno when an element cannot be reached.
 */
long grant_op_map(guest_ptr_t arg, unsigned count);
long grant_op_unmap(guest_ptr_t arg, unsigned count, bool replace);
long grant_op_copy(guest_ptr_t arg, unsigned count);

#define OPS_PER_SLICE 32 /* between two preemption points, and TLB flushes */

#endif
