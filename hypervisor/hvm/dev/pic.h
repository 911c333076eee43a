/*
 * The two 8259A interrupt controllers of a PC (Intel 231468) with their edge/level control
 * registers at 0x4d0 and 0x4d1 (82371AB). The second one's output is the first one's input 2.
 */
#ifndef HVM_DEV_PIC_H
#define HVM_DEV_PIC_H

#include "hvm/dev/device.h"

#include <xen/hvm/save.h>

#define PIC_LINES 16

struct pic {
    struct hvm_hw_vpic chip[2]; /* the registers, as they are saved */
    uint8_t lines[2];           /* the inputs as they are now */
};

void pic_reset(struct pic *p);
bool pic_port(uint16_t port); /* one of its own */
uint8_t pic_read(struct pic *p, uint16_t port);
void pic_write(struct pic *p, uint16_t port, uint8_t value);

/* What became of a rising line; LINE_LOST for a falling one. */
enum line_result pic_set_line(struct pic *p, unsigned irq, bool level);
/* The interrupt (0 to 15) that the CPU would be given now; -1. */
int pic_pending(const struct pic *p);
uint8_t pic_vector(const struct pic *p, unsigned irq);
/* The CPU takes @irq: it is in service. */
void pic_accept(struct pic *p, unsigned irq);

/* From a save record: all of it, or -XEN_EINVAL and nothing. */
int __must_check pic_check(const struct hvm_hw_vpic *chip, unsigned which);
void pic_load(struct pic *p, const struct hvm_hw_vpic *chip, unsigned which);

#endif
