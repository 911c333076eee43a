/*
 * The 2-level ABI (xen/xen.h, struct shared_info): one pending and one mask bit per port in the
 * shared page, one selector bit per 64 ports in vcpu_info, one upcall flag.
 *
 * The order is the ABI's: pending, then (if not masked) selector, then the upcall flag; the guest
 * clears them the other way round. All words are written by the guest as well, so each step is one
 * atomic operation and nothing that the guest can put there is followed.
 */
#include "event/internal.h"

#include "lib/bitmap.h"

/* A sender that was on its way while the domain left the FIFO ABI may hold a larger port. */
static inline bool fits(const struct channel *ch)
{
    return ch->port < PORTS_2L;
}

static void tell(struct vcpu *v, unsigned port)
{
    struct vcpu_info *info = READ_ONCE(v->info);
    if (!atomic_bit_set((uint64_t *)&info->evtchn_pending_sel, port / 64))
        vcpu_mark_events(v);
}

bool two_level_raise(struct channel *ch, struct vcpu *v)
{
    struct shared_info *s = ch->domain->shared;
    if (!fits(ch) || atomic_bit_set((uint64_t *)s->evtchn_pending, ch->port))
        return false;
    if (v && !bit_test((uint64_t *)s->evtchn_mask, ch->port))
        tell(v, ch->port);
    return true;
}

void two_level_unmask(struct channel *ch, struct vcpu *v)
{
    struct shared_info *s = ch->domain->shared;
    if (!fits(ch) || !atomic_bit_clear((uint64_t *)s->evtchn_mask, ch->port))
        return;
    if (v && bit_test((uint64_t *)s->evtchn_pending, ch->port))
        tell(v, ch->port);
}

void two_level_clear(struct channel *ch)
{
    if (fits(ch))
        atomic_bit_clear((uint64_t *)ch->domain->shared->evtchn_pending, ch->port);
}

bool two_level_pending(const struct channel *ch)
{
    return fits(ch) && bit_test((uint64_t *)ch->domain->shared->evtchn_pending, ch->port);
}
