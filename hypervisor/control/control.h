/*
 * What domain 0's tools ask for: domctl, sysctl, platform_op, physdev_op (xen/domctl.h, sysctl.h,
 * platform.h, physdev.h; interface versions 0x15). One permission table, one file per family.
 * Lock: RANK_DOMCTL for what creates, destroys or reassigns.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "domain/domain.h"

enum control_target { TARGET_NONE, TARGET_SELF, TARGET_ANY };

/*
 * May @caller do hypercall @nr's sub-operation @op to @target (NULL: no domain)?
 * 0 or -XEN_EPERM. Consulted before any lock or side effect.
 */
int __must_check permission_check(const struct domain *caller, unsigned nr, unsigned op,
                                  const struct domain *target);

/* The build's version string and capabilities, for xen_version and sysctl. */
extern const char trilby_changeset[], trilby_compile_date[];

#endif
