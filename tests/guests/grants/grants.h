/* The parts of the grants guest. */
#ifndef GRANTS_GRANTS_H
#define GRANTS_GRANTS_H

#include "guest.h"
#include <xen/grant_table.h>

extern volatile struct grant_entry_v1 *table;
#define ENTRIES 1024 /* of the two frames that we set up */

void grant(unsigned ref, uint16_t domid, uint64_t mfn, uint16_t flags);
void revoke(unsigned ref);
void copies(void); /* copy.c */

#endif
