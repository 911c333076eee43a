/* Domains for tests: made by hand, found by id, counted; what their vCPUs were told is recorded. */
#ifndef FAKE_DOMAIN_H
#define FAKE_DOMAIN_H

#include "domain/domain.h"

#define FAKE_DOMAINS 8

/* A domain with @vcpus vCPUs and a shared page; privileged makes it dom0. Rooms are not initialised. */
struct domain *fake_domain_new(domid_t id, unsigned vcpus, bool privileged);
/* Fails the test unless nobody else refers to it. */
void fake_domain_free(struct domain *d);
/* One frame of memory for it, with its allocation reference. */
struct page *fake_domain_page(struct domain *d);
void fake_domain_page_drop(struct page *page); /* gives that reference back */
/* Who makes the hypercalls from now on. */
void fake_current(struct vcpu *v);

extern unsigned fake_kicks[FAKE_DOMAINS][MAX_VCPUS];    /* vcpu_kick() */
extern unsigned fake_unblocks[FAKE_DOMAINS][MAX_VCPUS]; /* sched_unblock() */
extern unsigned fake_preempts;                          /* preempt_point() */

#endif
