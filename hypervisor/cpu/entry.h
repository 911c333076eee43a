/*
 * Assembly macros for the ways in and out: the frame is struct cpu_user_regs (xen/arch-x86/
 * xen-x86_64.h), the processor's own part at its upper end (APM vol. 2 section 8.9.3).
 *
 * From a guest the frame is `regs` of the vCPU's stack_top (cpu/cpu.h): TSS.rsp0 and the SYSCALL
 * stub's stack point at REGS_es. In the hypervisor the same frame lies on the current stack. Either
 * way the frame's address is 8 modulo 16, so a further 8 bytes make the stack fit for a call.
 *
 * A SYSCALL entry (pv/entry.S) builds the frame itself, from %rsp at REGS_es: ss, the guest's rsp,
 * r11 (rflags), cs, rcx (rip), VECTOR_SYSCALL, SAVE_GPRS. SFMASK has cleared what ENTRY_FLAGS
 * clears (IF, TF, DF, AC, NT), so that is not needed there.
 */
#ifndef CPU_ENTRY_H
#define CPU_ENTRY_H

/* Selectors in every GDT we load: the top page of the PV ABI's reserved range
 * (FIRST_RESERVED_GDT_PAGE, xen/arch-x86/xen.h). */
#define HV_CS 0xe008
#define HV_DS 0xe010

#ifdef __ASSEMBLY__
#define RFLAGS_TF 0x100
#define RFLAGS_RF 0x10000
#endif

#define REGS_r15 0
#define REGS_r14 8
#define REGS_r13 16
#define REGS_r12 24
#define REGS_rbp 32
#define REGS_rbx 40
#define REGS_r11 48
#define REGS_r10 56
#define REGS_r9  64
#define REGS_r8  72
#define REGS_rax 80
#define REGS_rcx 88
#define REGS_rdx 96
#define REGS_rsi 104
#define REGS_rdi 112
/*
 * regs.entry_vector of a guest that came by SYSCALL and may be left by SYSRET: cs and ss are the
 * flat 64-bit ones of user mode, rcx and r11 need not be kept, and rbx, rbp, r12 to r15 are as the
 * guest had them. Whoever changes that makes it 0: such a frame is restored in full, by IRETQ.
 */
#define VECTOR_SYSCALL (-1)

#define REGS_error     120 /* 32 bits */
#define REGS_vector    124 /* 32 bits */
#define REGS_rip       128
#define REGS_cs        136 /* 16 bits */
#define REGS_rflags    144
#define REGS_rsp       152
#define REGS_ss        160
#define REGS_es        168 /* end of what entries save */
#define STACK_TOP_cpu  216
#define STACK_TOP_vcpu 224
#define STACK_TOP_size 232
#define STACK_SIZE_ASM 8192

/*
 * STAC and CLAC open and close guest memory under SMAP. They are #UD on CPUs without it, so what is
 * linked are NOPs as long; features_init() makes them what they are meant to be where it exists.
 */
#define SMAP_SITE_OPEN  1
#define SMAP_SITE_CLOSE 0

#ifdef __ASSEMBLY__

.macro SMAP_SITE open
.Lsmap\@:
    .byte 0x0f, 0x1f, 0x00 /* nopl (%rax) */
    .pushsection .smap_sites, "a"
    .quad .Lsmap\@, \open
    .popsection
.endm
.macro SMAP_OPEN
    SMAP_SITE SMAP_SITE_OPEN
.endm
.macro SMAP_CLOSE
    SMAP_SITE SMAP_SITE_CLOSE
.endm

/* From %rsp = &frame.error_code to %rsp = &frame. Changes no register. */
.macro SAVE_GPRS
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
.endm

/*
 * What gates leave as the interrupted code had it: DF, and AC, which under SMAP would open guest
 * memory (APM vol. 2 section 5.6.6).
 */
.macro ENTRY_FLAGS
    cld
    SMAP_CLOSE
.endm

/* The reverse: %rsp = &frame.error_code afterwards. */
.macro RESTORE_GPRS
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
.endm

/* What the AMD64 ABI has a called function keep. */
.macro PUSH_CALLEE_SAVED
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
.endm
.macro POP_CALLEE_SAVED
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
.endm

/* To and from the struct cpu_user_regs at %rdi, all but rax and rdi. */
.macro LOAD_GUEST_GPRS
    mov REGS_r15(%rdi), %r15
    mov REGS_r14(%rdi), %r14
    mov REGS_r13(%rdi), %r13
    mov REGS_r12(%rdi), %r12
    mov REGS_rbp(%rdi), %rbp
    mov REGS_rbx(%rdi), %rbx
    mov REGS_r11(%rdi), %r11
    mov REGS_r10(%rdi), %r10
    mov REGS_r9(%rdi), %r9
    mov REGS_r8(%rdi), %r8
    mov REGS_rcx(%rdi), %rcx
    mov REGS_rdx(%rdi), %rdx
    mov REGS_rsi(%rdi), %rsi
.endm
.macro STORE_GUEST_GPRS
    mov %r15, REGS_r15(%rdi)
    mov %r14, REGS_r14(%rdi)
    mov %r13, REGS_r13(%rdi)
    mov %r12, REGS_r12(%rdi)
    mov %rbp, REGS_rbp(%rdi)
    mov %rbx, REGS_rbx(%rdi)
    mov %r11, REGS_r11(%rdi)
    mov %r10, REGS_r10(%rdi)
    mov %r9, REGS_r9(%rdi)
    mov %r8, REGS_r8(%rdi)
    mov %rcx, REGS_rcx(%rdi)
    mov %rdx, REGS_rdx(%rdi)
    mov %rsi, REGS_rsi(%rdi)
.endm

/* %reg = &stack_top()->regs of the stack that %rsp is on. */
.macro STACK_TOP reg
    mov %rsp, \reg
    or $(STACK_SIZE_ASM - 1), \reg
    sub $(STACK_TOP_size - 1), \reg
.endm

/* A fault at \from continues at \to (extable_find(), cpu/trap.c). */
.macro EXTABLE from, to
    .pushsection .extable, "a"
    .quad \from, \to
    .popsection
.endm

#else

#define SMAP_STRING2(x) #x
#define SMAP_STRING(x)  SMAP_STRING2(x)
#define SMAP_SITE(open)                                                                            \
    "99: .byte 0x0f, 0x1f, 0x00\n"                                                                 \
    ".pushsection .smap_sites, \"a\"\n"                                                            \
    ".quad 99b, " SMAP_STRING(open) "\n"                                                           \
                                    ".popsection\n"

static inline void smap_open(void)
{
    __asm__ volatile(SMAP_SITE(SMAP_SITE_OPEN)::: "memory");
}
static inline void smap_close(void)
{
    __asm__ volatile(SMAP_SITE(SMAP_SITE_CLOSE)::: "memory");
}

#endif
#endif
