/* Shared by the files of domain/. */
#ifndef DOMAIN_INTERNAL_H
#define DOMAIN_INTERNAL_H

#include "domain/domain.h"

static inline const struct guest_ops *ops_of(const struct domain *d)
{
    return unlikely(d->is_hvm) ? hvm_ops_table : pv_ops_table;
}

static inline struct vcpu *vcpu_by_id(const struct domain *d, uint64_t id)
{
    return id < d->max_vcpus && id < MAX_VCPUS ? READ_ONCE(d->vcpu[id]) : NULL;
}

/* --- domain.c --- */
extern struct domain idle_domain;
void domain_pause_locked(struct domain *d); /* d->lock held; does not wait */
void domain_unpause_locked(struct domain *d);
/* Gives way until no vCPU of @d but the caller runs; they have been blocked. */
void domain_wait_quiet(struct domain *d);
void domain_dump(char key); /* debug key */

/* --- vcpu.c --- */
void vcpu_free(struct vcpu *v);
void vcpu_stop_timers(struct vcpu *v);
/* Where vcpu_info is for a vCPU that has not said: in shared_info, or nowhere that matters. */
struct vcpu_info *vcpu_info_default(struct vcpu *v);
bool vcpu_info_is_dummy(const struct vcpu_info *info);
int __must_check vcpu_info_register(struct vcpu *v, uint64_t frame, uint32_t offset);
void vcpu_info_release(struct vcpu *v); /* the guest's page goes back; v runs no more */

/* --- runstate.c --- */
void runstate_entered(struct sched_entity *e, int state, ns_t now);
void runstate_get(struct vcpu *v, struct vcpu_runstate_info *out); /* up to now */
int __must_check runstate_write(struct vcpu *v); /* to its area; the kernel's tables are loaded */

/* --- guest_time.c --- */
void vcpu_timers_init(struct vcpu *v);
int __must_check vcpu_set_singleshot(struct vcpu *v, ns_t when, bool only_future);
int __must_check vcpu_set_periodic(struct vcpu *v, ns_t period); /* 0 stops */
/* What v, the current one, wants at guest virtual addresses; -XEN_EFAULT: not mapped there. */
#define AREA_RUNSTATE 1u
#define AREA_TIME     2u /* if it is stale */
int __must_check guest_areas_write(struct vcpu *v, unsigned which);

/* --- shutdown.c --- */
void domain_watchdogs_init(struct domain *d);
int __must_check domain_watchdog(struct domain *d, uint32_t id, uint32_t seconds);
void domain_watchdogs_stop(struct domain *d);

#endif
