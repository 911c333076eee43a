/*
 * Where things are in the sixteen top-level slots that the PV ABI leaves to the hypervisor
 * (HYPERVISOR_VIRT_START..END, xen/arch-x86/xen-x86_64.h): 0xffff800000000000-0xffff87ffffffffff.
 *
 *   slot  address              what
 *   256   0xffff800000000000   machine-to-physical table, readable by PV guests (ABI address)
 *   257   0xffff808000000000   vmap: stacks, per-CPU areas, device registers (mm/hostmap.c)
 *   258   0xffff810000000000   the hypervisor's image
 *   259   0xffff818000000000   struct page array, one per frame below the top of RAM
 *   260   0xffff820000000000   this domain's window: GDT and LDT of each vCPU (pv/segment.c)
 *   261   0xffff828000000000   the machine-to-physical table again, writable, for the hypervisor
 *   262+  0xffff830000000000   direct map of all RAM, never executable (up to 4 TiB)
 *
 * Slots 256-259 and 261-269 are the same in every address space; 260 differs per domain.
 */
#ifndef MM_LAYOUT_H
#define MM_LAYOUT_H

#define M2P_VIRT       0xffff800000000000
#define VMAP_VIRT      0xffff808000000000
#define IMAGE_VIRT     0xffff810000000000
#define IMAGE_PHYS     0x200000 /* where the image is loaded; IMAGE_VIRT + IMAGE_PHYS is its start */
#define FRAMES_VIRT    0xffff818000000000
#define PERDOMAIN_VIRT 0xffff820000000000
#define M2P_RW_VIRT    0xffff828000000000
#define DIRECT_VIRT    0xffff830000000000
#define DIRECT_SIZE    0x0000040000000000

#define HV_VIRT_START  0xffff800000000000
#define HV_VIRT_END    0xffff880000000000
#define HV_SLOT_FIRST  256
#define HV_SLOT_LAST   271
#define PERDOMAIN_SLOT 260

/* Each vCPU's part of the per-domain window: 16 pages of GDT, then 16 of LDT. */
#define PERDOMAIN_VCPU_SIZE    0x20000UL
#define PERDOMAIN_GDT(vcpu_id) (PERDOMAIN_VIRT + (vcpu_id)*PERDOMAIN_VCPU_SIZE)
#define PERDOMAIN_LDT(vcpu_id) (PERDOMAIN_GDT(vcpu_id) + 0x10000UL)

#endif
