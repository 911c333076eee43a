/* The parts of the control guest. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "guest.h"
#include <xen/domctl.h>
#include <xen/sysctl.h>

extern struct xen_domctl dc;
extern struct xen_sysctl sc;
long domctl(uint32_t cmd, uint16_t domain); /* with dc.u filled in */
long sysctl(uint32_t cmd);
void nap(uint64_t ns);
uint64_t free_pages(void);
void check_free(uint64_t want, const char *file, int line);
bool domain_info(uint16_t d, struct xen_domctl_getdomaininfo *info);
struct xen_domctl_createdomain plain_config(void);
long create_with(struct xen_domctl_createdomain c, uint16_t wanted, uint16_t *id);
long destroy(uint16_t d);
long populate(uint16_t d, xen_pfn_t *list, unsigned long n, unsigned order);

/* Flat 32-bit code at @rip for vCPU 0 of a hardware-virtualized domain (hvm.c). */
long flat_registers(uint16_t d, uint64_t rip);

void device_model(void); /* device_model.c */
void children(void); /* child.c */
void domctls(void);  /* domctls.c */
void failures(void); /* failures.c */
void hardware(void); /* hvm.c */
void rarities(void); /* operations.c */

#endif
