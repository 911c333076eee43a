/*
 * size_t guest_copy(void *dst, const void *src, size_t n)
 * size_t guest_clear(void *dst, size_t n)
 *
 * Move bytes where one side is guest memory; return how many were not moved because of a fault.
 * SMAP is lifted just for the access (STAC/CLAC, APM vol. 2 section 5.6.6); on CPUs without it
 * those are #UD, hence the test. A fault anywhere between STAC and CLAC lands at the fixup, which
 * returns what is left in %rdx.
 */
    .macro ON_FAULT from
    .pushsection .extable, "a"
    .quad \from, .Lfault
    .popsection
    .endm

    .text
    .globl guest_copy, guest_clear, guest_smap
    .hidden guest_copy, guest_clear, guest_smap

    .type guest_copy, @function
guest_copy:
    cmpb $0, guest_smap(%rip)
    je 1f
    stac
1:  cmp $256, %rdx
    ja 4f
2:  cmp $8, %rdx
    jb 3f
20: mov (%rsi), %rax
21: mov %rax, (%rdi)
    add $8, %rsi
    add $8, %rdi
    sub $8, %rdx
    jmp 2b
3:  test %rdx, %rdx
    jz .Ldone
30: movb (%rsi), %al
31: movb %al, (%rdi)
    inc %rsi
    inc %rdi
    dec %rdx
    jmp 3b
4:  mov %rdx, %rcx          /* long copies: words by the string unit, then the tail as above */
    and $7, %edx
    shr $3, %rcx
40: rep movsq
    jmp 3b
    ON_FAULT 20b
    ON_FAULT 21b
    ON_FAULT 30b
    ON_FAULT 31b
    .pushsection .extable, "a"
    .quad 40b, .Lfault_words
    .popsection
    .size guest_copy, . - guest_copy

    .type guest_clear, @function
guest_clear:
    mov %rsi, %rdx
    xor %eax, %eax
    cmpb $0, guest_smap(%rip)
    je 1f
    stac
1:  mov %rdx, %rcx
    and $7, %edx
    shr $3, %rcx
50: rep stosq
    mov %edx, %ecx
    xor %edx, %edx
51: rep stosb
    jmp .Ldone
    .pushsection .extable, "a"
    .quad 50b, .Lfault_words
    .quad 51b, .Lfault_bytes
    .popsection
    .size guest_clear, . - guest_clear

.Lfault_bytes:
    mov %rcx, %rdx
    jmp .Lfault
.Lfault_words:
    lea (%rdx, %rcx, 8), %rdx
.Lfault:
.Ldone:
    cmpb $0, guest_smap(%rip)
    je 6f
    clac
6:  mov %rdx, %rax
    ret

    .bss
guest_smap:                 /* bool: this machine has SMAP on */
    .byte 0
    .section .note.GNU-stack, "", @progbits
