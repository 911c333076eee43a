/*
 * Ticket spin locks.
 *
 * The hypervisor runs with interrupts off everywhere but in the idle loop and inside
 * preempt_point() (sched/sched.h), where no lock may be held. So an interrupt handler never
 * interrupts a lock holder, may itself take locks, and no lock needs an "irqsave" form.
 *
 * A CPU that waits for a lock may owe another CPU a TLB flush, and that CPU may hold the lock:
 * spinning therefore answers such requests through spin_poll() (cpu/ipi.c).
 */
#ifndef LIB_SPINLOCK_H
#define LIB_SPINLOCK_H

#include "lib/compiler.h"
#include "lib/lock_rank.h"
#include "lib/types.h"

struct spinlock {
    union {
        uint32_t word;
        struct {
            uint16_t serving; /* low half: the ticket that holds the lock */
            uint16_t next;    /* high half: the next ticket to hand out */
        };
    };
    uint8_t rank; /* [I] enum lock_rank */
};

#define SPINLOCK_INIT(r)                                                                           \
    {                                                                                              \
        .word = 0, .rank = (r)                                                                     \
    }

static inline void spin_init(struct spinlock *l, enum lock_rank rank)
{
    l->word = 0;
    l->rank = rank;
}

#ifdef DEBUG
void lock_rank_enter(struct spinlock *l); /* panics on inversion */
void lock_rank_leave(struct spinlock *l);
#else
static inline void lock_rank_enter(struct spinlock *l __unused)
{
}
static inline void lock_rank_leave(struct spinlock *l __unused)
{
}
#endif

void spin_wait(struct spinlock *l, uint16_t ticket); /* the slow path: poll and pause */

static inline void spin_lock(struct spinlock *l)
{
    lock_rank_enter(l);
    uint16_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_ACQUIRE);
    if (unlikely(__atomic_load_n(&l->serving, __ATOMIC_ACQUIRE) != ticket))
        spin_wait(l, ticket);
}

static inline bool spin_trylock(struct spinlock *l)
{
    uint32_t old = __atomic_load_n(&l->word, __ATOMIC_RELAXED);
    if ((uint16_t)old != (uint16_t)(old >> 16))
        return false;
    if (!__atomic_compare_exchange_n(&l->word, &old, old + 0x10000, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    lock_rank_enter(l);
    return true;
}

static inline void spin_unlock(struct spinlock *l)
{
    lock_rank_leave(l);
    __atomic_store_n(&l->serving, (uint16_t)(l->serving + 1), __ATOMIC_RELEASE);
}

static inline bool spin_is_locked(const struct spinlock *l)
{
    uint32_t w = __atomic_load_n(&l->word, __ATOMIC_RELAXED);
    return (uint16_t)w != (uint16_t)(w >> 16);
}

/* Both of one rank, in address order; the same lock twice is taken once. */
void spin_lock_pair(struct spinlock *a, struct spinlock *b);
void spin_unlock_pair(struct spinlock *a, struct spinlock *b);

#endif
