/* Included before every file: nothing is exported, so every reference is relative to RIP. */
#pragma GCC visibility push(hidden)
