/* The parts of the control guest. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "tools.h"

void check_free(uint64_t want, const char *file, int line);
bool domain_info(uint16_t d, struct xen_domctl_getdomaininfo *info);
struct xen_domctl_createdomain plain_config(void);
long create_with(struct xen_domctl_createdomain c, uint16_t wanted, uint16_t *id);
long destroy(uint16_t d);
long populate(uint16_t d, xen_pfn_t *list, unsigned long n, unsigned order);

/*
 * hvm.c: a hardware-virtualized domain with one vCPU and 2 MiB of memory from 0 on, paused; its
 * frames at a window of ours, of which there is one for even and one for odd numbers; and flat
 * 32-bit code at @rip for its vCPU.
 */
#define HVM_FRAMES    512
#define HVM_CODE_AT   0x1000
#define HVM_RESULT_AT 0x2000
uint16_t hvm_build(uint32_t emulation);
int wait_shutdown(uint16_t d); /* the reason; negative: not in 3 s, or there is no such domain */
bool wait_change(const volatile uint32_t *word, uint32_t from); /* false: not in 3 s */
void *map_gfn(uint16_t d, uint64_t gfn); /* NULL: nothing is there */
void unmap_gfn(void *at);
long flat_registers(uint16_t d, uint64_t rip);
/* The record of such registers, for changes; sent and asked for. */
struct hvm_hw_cpu *flat_record(void);
long flat_stream(uint16_t d);
long flat_get(uint16_t d);
/*
 * pod.c: one with a pool of so many pages, and no frame numbers for them yet; how many of @n extents
 * of such, from @gfn on, were made.
 */
uint16_t pod_build(uint64_t pages);
long pod_make(uint16_t d, xen_pfn_t gfn, unsigned n, unsigned order);

void device_model(void); /* device_model.c */
void children(void); /* child.c */
void domctls(void);  /* domctls.c */
void failures(void); /* failures.c */
void hardware(void); /* hvm.c */
void pod_memory(void); /* pod.c */
void rarities(void); /* operations.c */
void records(void);  /* records.c */
void states(void);   /* states.c */

#endif
