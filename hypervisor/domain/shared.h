/*
 * What a domain and the hypervisor write to at the same time: struct shared_info and vcpu_info
 * (xen/xen.h), laid out as 64-bit code has them or as 32-bit code has (xen/foreign/x86_32.h), and
 * the runstate area. This file and shared.c alone know both.
 *
 * They differ in little: each vCPU's structure has the same size and, but for the selector, the
 * same members at the same places; the pending bits begin at the same place with the mask's behind
 * them, and an array of bits is the same in words of either size. So the structures of 64-bit code
 * serve for all but what is here.
 *
 * Which one it is says domain.ports_2l: a hardware-virtualized guest has the layout of the code
 * that last set up the hypercall page or the callback; PV guests are 64-bit code.
 */
#ifndef DOMAIN_SHARED_H
#define DOMAIN_SHARED_H

#include "domain/domain.h"
#include "lib/bitmap.h"

#include <xen/foreign/x86_32.h>

#define WIDE_PORTS   EVTCHN_2L_NR_CHANNELS
#define NARROW_PORTS 1024u /* 32 words of 32 bits */

static inline bool shared_is_narrow(const struct domain *d)
{
    return READ_ONCE(d->ports_2l) == NARROW_PORTS;
}

static inline struct vcpu_info_x86_32 *vcpu_info_narrow(struct vcpu_info *info)
{
    return (struct vcpu_info_x86_32 *)info;
}

/* The bits of ports by the 2-level ABI: pending at [port], masked at [domain.ports_2l + port]. */
static inline uint64_t *shared_bits(const struct domain *d)
{
    return (uint64_t *)d->shared->evtchn_pending;
}

/* Sets the bit that leads to the word of @port; true if it was set. */
static inline bool shared_select(const struct domain *d, struct vcpu_info *info, unsigned port)
{
    if (likely(!shared_is_narrow(d)))
        return atomic_bit_set((uint64_t *)&info->evtchn_pending_sel, port / 64);
    uint32_t bit = 1u << port / 32 % 32;
    return __atomic_fetch_or(&vcpu_info_narrow(info)->evtchn_pending_sel, bit, __ATOMIC_SEQ_CST) &
           bit;
}

static inline void shared_select_all(const struct domain *d, struct vcpu_info *info)
{
    if (shared_is_narrow(d))
        WRITE_ONCE(vcpu_info_narrow(info)->evtchn_pending_sel, ~0u);
    else
        WRITE_ONCE(info->evtchn_pending_sel, ~0UL);
}

/* Where the wall clock is. */
struct shared_wallclock {
    uint32_t *version, *sec, *nsec, *sec_hi;
};
struct shared_wallclock shared_wallclock(const struct domain *d);

/* struct vcpu_runstate_info of 32-bit code (xen/vcpu.h): no gap behind the first member. */
struct runstate_narrow {
    uint32_t state;
    uint64_t state_entry_time, time[4];
} __attribute__((packed));

/*
 * The guest's kernel is 32-bit code from now on, or 64-bit code. In the new layout its vCPUs are
 * told of all that they had not taken notice of; an event that comes in at the same moment may have
 * to wait for the next look at its port, as when vcpu_info is moved.
 */
void shared_set_narrow(struct domain *d, bool narrow);

#endif
