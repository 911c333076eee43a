/*
 * The 2-level ABI (xen/xen.h, struct shared_info): one pending and one mask bit per port in the
 * shared page, one selector bit per 64 ports (per 32, of 32-bit code: domain/shared.h) in
 * vcpu_info, one upcall flag.
 *
 * The order is the ABI's: pending, then (if not masked) selector, then the upcall flag; the guest
 * clears them the other way round. All words are written by the guest as well, so each step is one
 * atomic operation and nothing that the guest can put there is followed.
 */
#include "domain/shared.h"
#include "event/internal.h"

/*
 * A sender that was on its way while the domain left the FIFO ABI may hold a larger port, and so
 * may a domain whose kernel has become 32-bit code.
 */
static inline bool fits(const struct channel *ch)
{
    return ch->port < READ_ONCE(ch->domain->ports_2l);
}

static void tell(const struct domain *d, struct vcpu *v, unsigned port)
{
    struct vcpu_info *info = READ_ONCE(v->info);
    if (!shared_select(d, info, port))
        vcpu_mark_events(v);
}

bool two_level_raise(struct channel *ch, struct vcpu *v)
{
    const struct domain *d = ch->domain;
    if (!fits(ch) || atomic_bit_set(shared_bits(d), ch->port))
        return false;
    if (v && !bit_test(shared_bits(d), READ_ONCE(d->ports_2l) + ch->port))
        tell(d, v, ch->port);
    return true;
}

void two_level_unmask(struct channel *ch, struct vcpu *v)
{
    const struct domain *d = ch->domain;
    if (!fits(ch) || !atomic_bit_clear(shared_bits(d), READ_ONCE(d->ports_2l) + ch->port))
        return;
    if (v && bit_test(shared_bits(d), ch->port))
        tell(d, v, ch->port);
}

void two_level_clear(struct channel *ch)
{
    if (fits(ch))
        atomic_bit_clear(shared_bits(ch->domain), ch->port);
}

bool two_level_pending(const struct channel *ch)
{
    return fits(ch) && bit_test(shared_bits(ch->domain), ch->port);
}
