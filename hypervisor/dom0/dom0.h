/* Builds domain 0 from the boot modules: the first is its kernel, the second its initrd. */
#ifndef DOM0_DOM0_H
#define DOM0_DOM0_H

void dom0_build(void); /* panics with one clear line when it cannot */

#endif
