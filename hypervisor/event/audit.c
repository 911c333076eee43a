/*
 * Looks whether the ports of all domains, what they are bound to, and the books about free ones
 * agree. Bindings change under the locks of both ends' tables, so one of them is enough to look.
 */
#include "event/internal.h"

#include "console/console.h"
#include "lib/bitmap.h"

#define LINES_MAX 10

static bool peers(const struct channel *ch)
{
    const struct channel *peer = ch->peer;
    return peer && peer->peer == ch && peer->state == CHANNEL_INTERDOMAIN &&
           bit_test(peer->domain->event->used, peer->port);
}

static bool is_right(const struct channel *ch)
{
    switch (ch->state) {
    case CHANNEL_INTERDOMAIN:
        return peers(ch);
    case CHANNEL_IPI:
        return ch->peer == ch;
    case CHANNEL_VIRQ:
        return !ch->peer && virq_is_bound(ch);
    case CHANNEL_PIRQ: /* may have outlived its pirq's mapping */
    case CHANNEL_FREE:
    case CHANNEL_RESERVED:
    case CHANNEL_UNBOUND:
        return !ch->peer;
    default:
        return false;
    }
}

static unsigned audit_domain(struct domain *d, uint64_t *ports)
{
    struct event_table *t = d->event;
    unsigned errors = 0;
    spin_lock(&t->lock);
    for (unsigned port = 1; port < t->valid; port++) {
        const struct channel *ch = channel_at(t, port);
        bool used = bit_test(t->used, port);
        *ports += used;
        if (used == (ch->state != CHANNEL_FREE) && (used || port >= t->lowest) && is_right(ch))
            continue;
        if (errors++ < LINES_MAX)
            log_error("d%u port %u: state %u, %s, %s peer", d->id, port, ch->state,
                      used ? "in use" : "free", ch->peer ? "with a" : "no");
    }
    unsigned astray = pirq_astray(d);
    if (astray)
        log_error("d%u: %u interrupts lead to ports that are not theirs", d->id, astray);
    spin_unlock(&t->lock);
    return errors + astray;
}

void event_audit(void)
{
    uint64_t ports = 0;
    unsigned errors = 0;
    struct domain *d;
    for_each_domain(d)
        errors += audit_domain(d, &ports);
    log_info("ports: %lu in use, %u errors", ports, errors);
}
