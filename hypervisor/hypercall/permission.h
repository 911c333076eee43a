/* Who may do what to whom: one table (permission.c). */
#ifndef HYPERCALL_PERMISSION_H
#define HYPERCALL_PERMISSION_H

#include "lib/compiler.h"

struct domain;

/*
 * May @caller do hypercall @nr's sub-operation @op to @target (NULL: no domain)?
 * 0 or -XEN_EPERM. Consulted before any lock or side effect.
 */
int __must_check permission_check(const struct domain *caller, unsigned nr, unsigned op,
                                  const struct domain *target);

#endif
