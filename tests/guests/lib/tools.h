/* What domain 0's tools do, as a test kernel: operations on domains and on the machine. */
#ifndef GUESTS_TOOLS_H
#define GUESTS_TOOLS_H

#include "guest.h"
#include <xen/domctl.h>
#include <xen/sysctl.h>

extern struct xen_domctl dc;
extern struct xen_sysctl sc;
long domctl(uint32_t cmd, uint16_t domain); /* with dc.u filled in */
long sysctl(uint32_t cmd);                  /* with sc.u filled in */
void nap(uint64_t ns);
uint64_t free_pages(void); /* of the machine */

#endif
