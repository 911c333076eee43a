/* The parts of the memory guest. */
#ifndef MEMORY_MEMORY_H
#define MEMORY_MEMORY_H

void table_refusals(void);  /* refuse.c */
void writable_tables(void); /* write.c */
void reservations(void);    /* reserve.c */

/* A page table page: zeroed, mapped read-only. */
uint64_t *table_alloc(void);
/* Maps it writable again and frees it; nothing may use it any more. */
void table_free(uint64_t *table);
/* Links table into parent[index] by mmu_update. */
long table_link(uint64_t *parent, unsigned index, uint64_t *table);
long table_set(uint64_t *table, unsigned index, uint64_t value);

#endif
