/*
 * From long mode to another mode, there a piece of code, and back. All code that runs in the other
 * modes is here too. FS has the local APIC in all of them, by its base: in real mode the one that
 * was loaded in protected mode.
 */
#define __ASSEMBLY__
#include "modes.h"

/* clang-format off */
#define EFER  0xc0000080
#define LOW(label) (label - low_start + LOW_CODE)

/* --- the same instructions for 16- and 32-bit code --- */

.macro body
    cld
    movl $0x11223344, %fs:0x380     /* initial count of the timer: a word that can be written */
    movl %fs:0x380, %eax
    movl %eax, RESULT
    movzwl %fs:0x382, %eax
    movl %eax, RESULT + 4
    movsbl %fs:0x381, %eax
    movl %eax, RESULT + 8
    movl $0x100, %ebx
    movl $0x280, %esi
    movl %fs:(%bx,%si), %eax
    movl %eax, RESULT + 12
    movl $0x140, %esi
    movl %fs:(%ebx,%esi,2), %eax
    movl %eax, RESULT + 16
    orl $0x88, %fs:0x380
    movl %fs:0x380, %eax
    movl %eax, RESULT + 20
    movl $0x55, %ecx
    xchgl %ecx, %fs:0x380
    movl %ecx, RESULT + 24
    btsl $31, %fs:0x380
    movl %fs:0x380, %eax
    movl %eax, RESULT + 28
    subl $0x80000055, %fs:0x380
    sete RESULT + 32
    notl %fs:0x380
    movl $0x380, %esi
    movl $BUFFER, %edi
    movl $1, %ecx
    rep movsl %fs:(%esi), %es:(%edi)
    movl $0x380, %esi
    lodsl %fs:(%si)
    movl %eax, RESULT + 36
    movl %esi, RESULT + 40
    movl $BUFFER + 16, %edi
    movl $5, %ecx
    movl $0x80, %edx
    rep insb
    movl %ecx, RESULT + 44
    movl %edi, RESULT + 48
    movl $BUFFER, %esi
    movl $3, %ecx
    rep outsb
    movl %esi, RESULT + 52
    movups %fs:0x380, %xmm1
    movups %xmm1, BUFFER + 32
    movl $0x12345678, %eax
    inb $0x80, %al
    movl %eax, RESULT + 56
    movl $0x40000000, %eax
    cpuid
    movl %ebx, RESULT + 60
    movl $0, %fs:0x380
.endm

/* A slice of a REP runs into the end of the segment. */
.macro at_the_limit
    cld
    movl $0xff0, %esi
    movl $0x20, %ecx
    rep lodsb %fs:(%esi)
.endm

/* The descriptor at @selector: of the task state segment at @base, of @type, and present. */
.macro put_tss selector, base, type
    mov $\base, %eax
    mov %ax, gdt + \selector + 2
    shr $16, %eax
    mov %al, gdt + \selector + 4
    mov %ah, gdt + \selector + 7
    movb $\type, gdt + \selector + 5
.endm

/* Selector 72 is the current task from now on, 80 another one. */
.macro load_tasks
    put_tss 72, tss32, 0x89
    put_tss 80, other_task, 0x89
    mov $72, %ax
    ltr %ax
.endm

/* --- there and back --- */
    .text
    .code64
    .globl mode_run /* (mode, code) */
mode_run:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, saved_rsp
    mov %cr0, %rax
    mov %rax, saved_cr0
    mov %cr3, %rax
    mov %rax, saved_cr3
    mov %cr4, %rax
    mov %rax, saved_cr4
    sidt saved_idt
    lgdt gdt_long
    mov %edi, mode
    mov %esi, %ebp
    pushq $24
    lea compat(%rip), %rax
    push %rax
    lretq

    .code32
compat:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $48, %ax
    mov %ax, %fs
    mov $56, %ax
    mov %ax, %gs
    mov $LOW_STACK, %esp
    cmpl $MODE_COMPAT, mode
    jne 1f
    call *%ebp
    jmp leave_paging
1:  mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov $EFER, %ecx
    rdmsr
    and $~0x100, %eax
    wrmsr
    lidt idt32_pointer
    cmpl $MODE_REAL, mode
    je to_real
    cmpl $MODE_VM86, mode
    je to_vm86
    cmpl $MODE_PROTECTED, mode
    je 3f
    mov $0x610, %eax        /* PSE, OSFXSR, OSXMMEXCPT */
    mov $pd_pse, %ecx
    cmpl $MODE_PSE, mode
    je 2f
    mov $0x620, %eax        /* PAE */
    mov $pdpt_pae, %ecx
2:  mov %eax, %cr4
    mov %ecx, %cr3
    mov %cr0, %eax
    or $0x80010000, %eax
    mov %eax, %cr0
3:  call *%ebp
leave_paging:
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
to_long:
    mov saved_cr4, %eax
    mov %eax, %cr4
    mov saved_cr3, %eax
    mov %eax, %cr3
    mov $EFER, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov saved_cr0, %eax
    mov %eax, %cr0
    ljmp $8, $1f
    .code64
1:  lidt saved_idt
    xor %eax, %eax
    mov %ax, %fs
    mov %ax, %gs
    mov saved_rsp, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .code32
to_real:
    ljmp $32, $LOW(to_real16)
from_real:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    jmp to_long

/* Virtual-8086 mode is left by HLT, which is #GP there. */
to_vm86:
    movl $16, tss32 + 8     /* ss0 */
    movl %esp, tss32 + 4
    movl $from_vm86, RESUME
    load_tasks
    pushl $0                /* gs, fs, ds, es */
    pushl $0xfee0 >> 4 << 4
    pushl $0
    pushl $0
    pushl $0                /* ss, esp */
    pushl $LOW_STACK - 0x100
    pushl $0x23002          /* VM, IOPL 3 */
    pushl $0
    pushl %ebp
    iret
from_vm86:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $LOW_STACK, %esp
    jmp to_long

/* --- faults of 32-bit code --- */
fault_6:
    push $0
    push $6
    jmp fault32
fault_12:
    push $12
    jmp fault32
fault_13:
    push $13
    jmp fault32
fault_14:
    push $14
fault32:
    push %eax
    mov 4(%esp), %eax
    mov %eax, %ss:FAULT
    mov 8(%esp), %eax
    mov %eax, %ss:FAULT + 4
    mov %cr2, %eax
    mov %eax, %ss:FAULT + 8
    mov 12(%esp), %eax
    mov %eax, %ss:FAULT + 12
    mov %ecx, %ss:FAULT + 16
    mov %esi, %ss:FAULT + 20
    mov %edi, %ss:FAULT + 24
    mov %ss:RESUME, %eax
    cmpl $MODE_VM86, %ss:mode
    je 1f
    mov %eax, 12(%esp)
    pop %eax
    add $8, %esp
    iret
1:  jmp *%eax

/* --- 32-bit code --- */
    .globl task32, body32, limit32, down32, read_only32, hole32, unknown32, call32, task16, wrmsr32, event32
body32:
    body
    ret
limit32:
    movl $1f, RESUME
    at_the_limit
1:  ret
down32: /* GS: an expand-down segment, offsets from 0x380 */
    movl $1f, RESUME
    std
    movl $0x383, %esi
    movl $8, %ecx
    rep lodsb %gs:(%esi)
1:  cld
    ret
read_only32:
    movl $1f, RESUME
    mov $64, %ax
    mov %ax, %es
    movl $0x380, %esi
    movl $0x380, %edi
    movsl %fs:(%esi), %es:(%edi)
1:  mov $16, %ax
    mov %ax, %es
    ret
hole32: /* two elements are stored, the third is not */
    movl $1f, RESUME
    cld
    movl $0x380, %esi
    movl $HOLE - 8, %edi
    movl $4, %ecx
    rep movsl %fs:(%esi), %es:(%edi)
1:  ret
unknown32:
    movl $1f, RESUME
    imull %fs:0x380, %eax
1:  ret
task32: /* hardware task switches by JMP, CALL, INT and an exception, and back */
    movl $1f, RESUME
    load_tasks
    mov %cr3, %eax
    mov %eax, other_task + 28
    mov %eax, tss32 + 28
    ljmp $80, $0
    movl $0x5a, RESULT
    str RESULT + 4
    movl $0, RESULT + 20
    lcall $80, $0
    int $15
    movl $1f, RESUME
    mov $88, %ax
    mov %ax, %gs            /* not present */
1:  str RESULT + 28
    ret
in_task:
    movl $0x1234, %fs:0x380
    movl %fs:0x380, %eax
    movl %eax, RESULT + 8
    str RESULT + 12
    mov $0x40000000, %eax
    cpuid
    mov %ebx, RESULT + 16
    pushf
    pop %eax
    test $0x4000, %eax      /* NT: nested in the other one */
    jnz 1f
    ljmp $72, $0
    jmp in_task             /* the next switch comes back here */
1:  incl RESULT + 20
    cmp $LOW_STACK - 0x400, %esp
    je 2f
    pop RESULT + 24         /* the exception's error code; not to that instruction again */
    mov RESUME, %eax
    mov %eax, tss32 + 32
2:  iret
    jmp in_task

task16: /* to a task of 16-bit code and back */
    load_tasks
    mov %cr3, %eax
    mov %eax, tss32 + 28
    put_tss 96, tss16, 0x81
    mov $0x12345678, %ebx
    lcall $96, $0
    mov %ebx, RESULT
    str RESULT + 4
    lcall $96, $0           /* where it went on */
    ret

wrmsr32: /* MSR and value, 0 in their place when that worked */
    movl $1f, RESUME
    mov CALL, %ecx
    mov CALL + 4, %eax
    xor %edx, %edx
    wrmsr
    movl $0, CALL
1:  ret

/* A hypercall with interrupts on, which raises an event; waits for the upcall for a while. */
event32:
    movl $0, RESULT
    sti
    call call32
    mov $10000000, %ecx
1:  cmpl $0, RESULT
    loope 1b
    cli
    ret
upcall32: /* RESULT: how many, and what the selector was; vcpu_info behind them */
    push %eax
    push %ebx
    mov RESULT + 8, %ebx
    incl RESULT
    xor %eax, %eax
    xchg %al, (%ebx)
    xor %eax, %eax
    xchg %eax, 4(%ebx)
    mov %eax, RESULT + 4
    pop %ebx
    pop %eax
    iret

call32:
    mov CALL, %eax
    mov CALL + 4, %ebx
    mov CALL + 8, %ecx
    mov CALL + 12, %edx
    mov CALL + 16, %esi
    shl $5, %eax
    add $hypercall_page, %eax
    call *%eax
    mov %eax, CALL
    ret

/* --- 16-bit code, copied to LOW_CODE --- */
    .globl low_start, low_end, low_body, low_limit, low_vm86, low_fault_13, low_task16
    .code16
low_start:
to_real16:
    mov $40, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    lidtl LOW(real_idt)
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmp $0, $LOW(1f)
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $LOW_STACK, %sp
    call *%bp
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $24, $from_real
real_idt:
    .word 0x3ff
    .long 0
low_body:
    body
    ret
low_limit:
    movl $LOW(1f), RESUME
    at_the_limit
1:  ret
low_fault_13:
    push %eax
    movl $13, %ss:FAULT
    movl %ecx, %ss:FAULT + 16
    movl %esi, %ss:FAULT + 20
    mov %sp, %bp
    mov %ss:RESUME, %ax
    mov %ax, 4(%bp)
    pop %eax
    iret
low_task16:
    mov %ax, RESULT + 8
    str RESULT + 12
    mov $0x5a5a, %bx
    iret
    mov %bx, RESULT + 16
    iret
low_vm86: /* FS is 0xfee0 here: no APIC; ports and strings */
    cld
    movl $BUFFER + 16, %edi
    movl $5, %ecx
    movl $0x80, %edx
    rep insb
    movl %edi, RESULT + 48
    movl $0x12345678, %eax
    inb $0x80, %al
    movl %eax, RESULT + 56
    movl $0x40000000, %eax
    cpuid
    movl %ebx, RESULT + 60
    hlt
low_end:

/* --- tables --- */
    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 8: 64-bit code */
    .quad 0x00cf93000000ffff /* 16: data */
    .quad 0x00cf9b000000ffff /* 24: 32-bit code */
    .quad 0x00009b000000ffff /* 32: 16-bit code */
    .quad 0x000093000000ffff /* 40: 16-bit data */
    .quad 0xfe4093e000000fff /* 48: the local APIC */
    .quad 0xfe4097e00000037f /* 56: expand-down */
    .quad 0xfe4091e000000fff /* 64: read-only */
    .quad 0x0000890000002067 /* 72: TSS */
    .quad 0x0000890000000067 /* 80 */
    .quad 0x00cf13000000ffff /* 88: not present */
    .quad 0x000081000000002b /* 96: 16-bit TSS */
gdt_long:
    .word . - gdt - 1
    .quad gdt
idt32_pointer:
    .word VECTOR32 * 8 + 7
    .long idt32
    .balign 8
    .globl idt32, idt32_entries
idt32:
    .skip VECTOR32 * 8 + 8
idt32_entries:
    .long 6, fault_6, 12, fault_12, 13, fault_13, 14, fault_14, VECTOR32, upcall32, 0
saved_rsp: .quad 0
saved_cr0: .quad 0
saved_cr3: .quad 0
saved_cr4: .quad 0
saved_idt: .quad 0, 0
mode: .long 0
    .balign 16
tss32: /* the port bitmap behind it allows all */
    .skip 102
    .word 104
    .skip 8192 + 8
    .balign 16
other_task:
    .skip 32
    .long in_task, 2, 0, 0, 0, 0, LOW_STACK - 0x400, 0, 0, 0
    .long 16, 24, 16, 16, 48, 0, 0, 104 << 16 /* es, cs, ss, ds, fs, gs, ldt, bitmap */
    .globl tss16
tss16: /* ip is set before each run */
    .skip 14
    .word 0, 2, 0x1616, 0, 0, 0, LOW_STACK - 0x800, 0, 0, 0
    .word 40, 32, 40, 40, 0 /* es, cs, ss, ds, ldt */
    .balign 4096
    .globl pd_pse, pdpt_pae, pd_pae
pd_pse: .skip 4096
pd_pae: .skip 4 * 4096
pdpt_pae: .skip 4096
    .section .note.GNU-stack, "", @progbits
