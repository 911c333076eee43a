/*
 * Ticket locks, the parts that are not inline (lib/spinlock.h), and in debug builds the check of
 * the lock order (lib/lock_rank.h).
 *
 * Each CPU keeps the ranks it holds in struct cpu; a rank may be entered only when it is above all
 * of them, or equal to the highest in the second half of spin_lock_pair(). Nothing interrupts a
 * lock holder but NMIs, which take locks by trylock only and are not checked, so the array needs no
 * protection. After a panic has begun the order is no longer checked.
 */
#include "lib/spinlock.h"
#include "cpu/cpu.h"
#include "console/console.h"

void spin_wait(struct spinlock *l, uint16_t ticket)
{
    while (__atomic_load_n(&l->serving, __ATOMIC_ACQUIRE) != ticket) {
        spin_poll();
        cpu_pause();
    }
}

#ifdef DEBUG
static unsigned highest_held(const struct cpu *c)
{
    unsigned highest = RANK_NONE;
    for (unsigned i = 0; i < c->locks_held; i++)
        highest = max(highest, (unsigned)c->lock_ranks[i]);
    return highest;
}

static void push(struct spinlock *l, bool equal_allowed)
{
    struct cpu *c = this_cpu();
    unsigned highest = highest_held(c);
    if (c->in_nmi || console_panicking())
        return;
    if (l->rank <= RANK_NONE || l->rank >= RANK_COUNT)
        panic("lock %pS has rank %u", (void *)l, l->rank);
    if (l->rank < highest || (l->rank == highest && !equal_allowed))
        panic("lock order: rank %u wanted while %u is held (lock %pS)", l->rank, highest,
              (void *)l);
    if (c->locks_held == ARRAY_SIZE(c->lock_ranks))
        panic("more than %u locks held", c->locks_held);
    c->lock_ranks[c->locks_held++] = l->rank;
}

void lock_rank_enter(struct spinlock *l)
{
    push(l, false);
}

/* Locks may be released in any order. */
void lock_rank_leave(struct spinlock *l)
{
    struct cpu *c = this_cpu();
    if (c->in_nmi || console_panicking())
        return;
    for (unsigned i = c->locks_held; i-- > 0;) {
        if (c->lock_ranks[i] != l->rank)
            continue;
        c->locks_held--;
        for (; i < c->locks_held; i++)
            c->lock_ranks[i] = c->lock_ranks[i + 1];
        return;
    }
    panic("lock of rank %u released but not held", l->rank);
}
#else
static void push(struct spinlock *l __unused, bool equal_allowed __unused)
{
}
#endif

void spin_lock_pair(struct spinlock *a, struct spinlock *b)
{
    struct spinlock *first = a < b ? a : b, *second = a < b ? b : a;
    spin_lock(first);
    if (first == second)
        return;
    push(second, true);
    uint16_t ticket = __atomic_fetch_add(&second->next, 1, __ATOMIC_ACQUIRE);
    if (__atomic_load_n(&second->serving, __ATOMIC_ACQUIRE) != ticket)
        spin_wait(second, ticket);
}

void spin_unlock_pair(struct spinlock *a, struct spinlock *b)
{
    spin_unlock(a);
    if (a != b)
        spin_unlock(b);
}
