/* A program for domain 0: `mark A`, `mark B` ... executes marker 16, 17 ... (bench/counter). */
    .text
    .globl _start
_start:
    mov 16(%rsp), %rax      /* argv[1] */
    movzbl (%rax), %eax
    sub $'A', %eax
    .set n, 0
    .rept 16
    cmp $n, %eax
    jne 1f
    .byte 0x0f, 0x1f, 0x80
    .long 0x54420000 + 16 + n
1:
    .set n, n + 1
    .endr
    mov $60, %eax
    xor %edi, %edi
    syscall
    .section .note.GNU-stack, "", @progbits
