/*
 * A boot sector for HVM guests: it speaks on screen and serial port, reads the sector behind it by
 * the BIOS, counts ticks of the timer, and says which keys are typed.
 */
    .code16
    .globl _start
_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    ljmp $0, $begin
begin:
    sti
    mov $hello, %si
    call say
    /* the sector behind this one, by the BIOS and the emulated disk */
    mov $0x0201, %ax
    mov $0x0002, %cx
    mov $0x0080, %dx
    mov $0x7e00, %bx
    int $0x13
    jc failed
    mov $0x7e00, %si
    call say
    /* 18 ticks of the timer, by its interrupt */
    mov %ds:0x46c, %cx
1:  hlt
    mov %ds:0x46c, %ax
    sub %cx, %ax
    cmp $18, %ax
    jb 1b
    mov $ticked, %si
    call say
2:  mov $0, %ah
    int $0x16
    mov %al, letter
    mov $typed, %si
    call say
    jmp 2b
failed:
    mov $bad, %si
    call say
3:  hlt
    jmp 3b
say:
    lodsb
    test %al, %al
    jz 9f
    push %ax
    mov $0x0e, %ah
    mov $7, %bx
    int $0x10
    mov $0x3fd, %dx
8:  in %dx, %al
    test $0x20, %al
    jz 8b
    pop %ax
    mov $0x3f8, %dx
    out %al, %dx
    jmp say
9:  ret
hello: .asciz "boot sector runs\r\n"
ticked: .asciz "the timer ticks\r\n"
typed: .ascii "typed "
letter: .asciz "?\r\n"
bad: .asciz "the disk cannot be read\r\n"
    .org 510
    .word 0xaa55
    .asciz "second sector read\r\n"
    .org 1024
