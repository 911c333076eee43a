/*
 * bool guest_copy(void *dst, const void *src, size_t n)
 * bool guest_clear(void *dst, size_t n)
 *
 * Move bytes where one side is guest memory; true: a fault ended it, and what came before may have
 * been moved. SMAP is lifted just for the access (APM vol. 2 section 5.6.6).
 */
#include "cpu/entry.h"

    .macro ACCESS from, insn:vararg
\from:
    \insn
    .pushsection .extable, "a"
    .quad \from\()b, .Lfault
    .popsection
    .endm

    .text
    .globl guest_copy, guest_clear
    .hidden guest_copy, guest_clear

    .type guest_copy, @function
guest_copy:
    SMAP_OPEN
    cmp $256, %rdx
    ja .Llong
    sub $32, %rdx
    jb 3f
2:  /* Four words at a time: most arguments and frames are that short. */
    ACCESS 10, mov (%rsi), %rax
    ACCESS 11, mov 8(%rsi), %rcx
    ACCESS 12, mov 16(%rsi), %r8
    ACCESS 13, mov 24(%rsi), %r9
    ACCESS 14, mov %rax, (%rdi)
    ACCESS 15, mov %rcx, 8(%rdi)
    ACCESS 16, mov %r8, 16(%rdi)
    ACCESS 17, mov %r9, 24(%rdi)
    add $32, %rsi
    add $32, %rdi
    sub $32, %rdx
    jae 2b
3:  add $32, %rdx
4:  sub $8, %rdx
    jb 5f
    ACCESS 20, mov (%rsi), %rax
    ACCESS 21, mov %rax, (%rdi)
    add $8, %rsi
    add $8, %rdi
    jmp 4b
5:  add $8, %rdx
    jz .Ldone
6:
    ACCESS 30, movb (%rsi), %al
    ACCESS 31, movb %al, (%rdi)
    inc %rsi
    inc %rdi
    dec %rdx
    jnz 6b
    jmp .Ldone
.Llong:
    mov %rdx, %rcx
    and $7, %edx
    shr $3, %rcx
    ACCESS 40, rep movsq
    test %edx, %edx
    jnz 6b
    jmp .Ldone
    .size guest_copy, . - guest_copy

    .type guest_clear, @function
guest_clear:
    xor %eax, %eax
    SMAP_OPEN
    mov %rsi, %rcx
    shr $3, %rcx
    ACCESS 50, rep stosq
    mov %esi, %ecx
    and $7, %ecx
    ACCESS 51, rep stosb
.Ldone:
    xor %eax, %eax
    SMAP_CLOSE
    ret
.Lfault:
    SMAP_CLOSE
    mov $1, %eax
    ret
    .size guest_clear, . - guest_clear

    .section .note.GNU-stack, "", @progbits
