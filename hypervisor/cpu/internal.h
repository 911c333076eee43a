/* Between the files of cpu/. */
#ifndef CPU_INTERNAL_H
#define CPU_INTERNAL_H

#include "cpu/cpu.h"

/* The interrupt stack table (APM vol. 2 section 8.9.4): numbers as in gates, 1..4. */
enum { IST_DB = 1, IST_NMI, IST_DF, IST_MC, IST_COUNT = 4 };

void features_init(void);
void features_init_cpu(void); /* CR0, CR4, EFER, PAT, XCR0 of this CPU */

void desc_init_idt(void);
void desc_fill_gdt(uint64_t *gdt, const struct tss64 *tss);
void desc_load(struct cpu *c); /* GDT, selectors, TSS, IDT */

void nmi_handle(struct cpu_user_regs *regs);
void mce_handle(struct cpu_user_regs *regs);
void mce_init_cpu(void);
void grace_quiescent(struct cpu *c); /* an interrupt came: nothing is borrowed on this CPU */

extern bool ipi_stopping; /* [a] CPUs that get an NMI halt */

#endif
