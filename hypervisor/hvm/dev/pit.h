/*
 * The 8254 timer of a PC (Intel 231164) at 0x40 to 0x43, and port 0x61 with the gate and output of
 * its channel 2. Channel 0's output is ISA interrupt 0.
 */
#ifndef HVM_DEV_PIT_H
#define HVM_DEV_PIT_H

#include "lib/compiler.h"
#include "lib/types.h"

#include <xen/hvm/save.h>

#define PIT_HZ       1193182u
#define PIT_CHANNELS 3

struct pit_channel {
    uint32_t count; /* what it counts from, up to 65536; 0: not loaded */
    uint16_t latched_count;
    uint8_t count_latched; /* bytes of it that are still to be read */
    bool status_latched;
    uint8_t status;
    bool read_high, write_high; /* of a pair of bytes the second is next */
    uint8_t write_latch;
    uint8_t rw; /* 1 low byte, 2 high byte, 3 both */
    uint8_t mode;
    bool bcd, gate;
    uint64_t start; /* ns when the count began */
    uint64_t held;  /* gate low in modes 0 and 4: ticks that had passed */
    bool stopped;   /* modes 1 and 5 before their trigger; 0 between two bytes */
};

struct pit {
    struct pit_channel channel[PIT_CHANNELS];
    uint8_t speaker; /* port 0x61, bits 0 to 3 */
    uint64_t edges;  /* interrupts of channel 0's count that have been given */
};

void pit_reset(struct pit *p, uint64_t now);
bool pit_port(uint16_t port);
uint8_t pit_read(struct pit *p, uint16_t port, uint64_t now);
void pit_write(struct pit *p, uint16_t port, uint8_t value, uint64_t now);
/* When channel 0 next interrupts; DEV_NEVER. */
uint64_t pit_next(const struct pit *p);
/* How often it has since the last call. */
uint64_t pit_advance(struct pit *p, uint64_t now);

void pit_save(const struct pit *p, struct hvm_hw_pit *out);
int __must_check pit_check(const struct hvm_hw_pit *in);
void pit_load(struct pit *p, const struct hvm_hw_pit *in, uint64_t now); /* counts begin anew */

#endif
