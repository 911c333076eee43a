#!/bin/sh
# Symbol table of the hypervisor for lib/symbols.c: the output of `nm -n` on stdin becomes an
# assembly file on stdout; nothing on stdin becomes an empty table (first pass of the link).
exec awk '
BEGIN {
    print "    .section .rodata.symbols, \"a\", @progbits"
    print "    .globl symbol_count, symbol_table, symbol_names"
    print "    .hidden symbol_count, symbol_table, symbol_names"
    print "    .balign 4"
    n = 0
}
$3 == "__image_start" { start = $1 }
$2 ~ /^[tTwW]$/ && start != "" && $3 !~ /^[.]/ && $3 !~ /^__.*_(start|end)$/ {
    address[n] = $1
    name[n++] = $3
}
END {
    print "symbol_count: .long " n
    print "symbol_table:"
    for (i = 0; i < n; i++)
        print "    .long 0x" address[i] " - 0x" start ", .L" i " - symbol_names"
    print "symbol_names:"
    for (i = 0; i < n; i++)
        print ".L" i ": .asciz \"" name[i] "\""
    print "    .section .note.GNU-stack, \"\", @progbits"
}'
