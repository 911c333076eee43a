/* What port.S and its device model, model.c, agree on. */
#define PORT  0x510
#define WARM  100
#define COUNT 2000 /* of writes, and of reads; devices.py */
