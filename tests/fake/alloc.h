/* Memory for tests: objects, and a small machine's RAM with its frame table. */
#ifndef FAKE_ALLOC_H
#define FAKE_ALLOC_H

#include "mm/mm.h"

#define FAKE_FRAMES 2048u /* of RAM; frame 0 is nobody's */

/* The nth allocation from now on fails (1: the next one); 0: none. Counts frames too. */
extern unsigned fake_alloc_fail_in;
extern unsigned fake_alloc_live; /* objects and frames not given back yet */

/* Empties the RAM: every frame is free again. */
void fake_ram_reset(void);
/* Free frames right now. */
unsigned fake_ram_free(void);

#endif
