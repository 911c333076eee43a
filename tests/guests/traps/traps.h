/* The parts of the traps guest. */
#ifndef TRAPS_TRAPS_H
#define TRAPS_TRAPS_H

void user_mode(void); /* user.c */

#endif
