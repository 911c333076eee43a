/* For assembly: one ELF note for the domain builder (xen/elfnote.h). */
/* clang-format off */
.macro note type, desc:vararg
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:  \desc
2:  .balign 4
    .popsection
.endm
