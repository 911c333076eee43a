/* Low memory that code of every mode reaches, and the modes. */
#ifndef MODES_H
#define MODES_H

#define RESULT     0x7000 /* what the code found, word by word */
#define FAULT      0x7080 /* vector, error, cr2, eip, ecx, esi, edi */
#define RESUME     0x70c0 /* where to go on after a fault */
#define BUFFER     0x7100
#define CALL       0x7200 /* number and arguments of a hypercall; its result in place of the number */
#define LOW_STACK  0xff00
#define LOW_CODE   0x9000
#define HOLE       0x02000000 /* nothing is mapped here with paging: behind 32 MiB */

#define VECTOR32   0x31 /* events of 32-bit code */

#define MODE_REAL      0
#define MODE_PROTECTED 1 /* without paging */
#define MODE_PSE       2
#define MODE_PAE       3
#define MODE_COMPAT    4
#define MODE_VM86      5

#ifndef __ASSEMBLY__
/* main.c: a hypercall of 32-bit code; shared.c */
uint32_t call(uint32_t nr, uint32_t a, const volatile void *b, uint32_t c);
uint32_t address(const void *p);
void mode_run(unsigned mode, uint32_t code);
void shared_layouts(void);
#endif

#endif
