"""Bad input to the boot: one clear line on the serial console, and nothing goes on as if all were
well.  These boots end before domain 0 runs, so each takes seconds.  Where stock Xen has a line for
the same mistake, it is accepted too, so that the tests themselves can be tried with it."""

import os
import re

import pytest

import machine as m


def start(slot, name, **options):
    xen = ("noreboot=1 " + options.pop("xen", "")).strip()
    return slot.start("bad-" + name, xen=xen, agent=False, **options)


def no_backtrace_of_ours(machine):
    """A mistake of the person is not a fault of the hypervisor: no page fault, no assertion."""
    text = machine.console()
    assert not re.search(r"FATAL PAGE FAULT|Assertion|BUG at|double fault", text, re.I), text[-2000:]


def test_no_kernel(slot):
    machine = start(slot, "no-kernel", kernel="none", initrd="none")
    machine.expect_line(r"(?i)no domain 0 kernel|dom0 kernel not specified", 20)
    no_backtrace_of_ours(machine)


@pytest.mark.parametrize("kind", ["zeros", "text", "truncated", "header-only", "bad-payload"])
def test_corrupt_kernel(slot, kind):
    path = os.path.join(m.LOGS, f"kernel-{kind}")
    with open(os.path.join(m.BUILD, "dom0", "vmlinuz"), "rb") as file:
        good = file.read()
    bad = {
        "zeros": bytes(1 << 20),
        "text": b"This is not a kernel.\n" * 1000,
        "truncated": good[:len(good) // 3],
        "header-only": good[:4096],
        # The setup header is right; the compressed kernel behind it is not.
        "bad-payload": good[:1 << 20] + bytes(b ^ 0x5a for b in good[1 << 20:3 << 20]) + good[3 << 20:],
    }[kind]
    with open(path, "wb") as file:
        file.write(bad)
    machine = start(slot, "kernel-" + kind, kernel=path)
    machine.expect_line(r"(?i)domain 0 kernel[^\n]*:|not an elf|could not (construct|set up) dom|"
                   r"decompress[^\n]*(fail|error)|bad (gzip|bzimage)|(xz|lzma)[^\n]*corrupt", 30)
    no_backtrace_of_ours(machine)


def test_truncated_initrd(slot):
    path = os.path.join(m.LOGS, "initrd-truncated")
    with open(os.path.join(m.BUILD, "dom0", "initrd"), "rb") as file:
        good = file.read()
    with open(path, "wb") as file:
        file.write(good[:len(good) // 2])
    machine = start(slot, "initrd", initrd=path)
    # The kernel is who unpacks it, and says so; what it got out of it may be enough for our script
    # to miss its drivers, or too little for even that.
    machine.expect_line(r"Initramfs unpacking failed", 60)
    machine.expect_line(r"domain 0: no disk|Kernel panic|(?i:dom(ain )?0 crash)", 60)
    no_backtrace_of_ours(machine)


@pytest.mark.parametrize("value", ["999999G", "0", "1K"])
def test_absurd_dom0_mem(slot, value):
    """Either domain 0 gets a sensible size instead and a line says so, or a line says that it
    cannot be: what may not happen is silence or a fault."""
    machine = start(slot, f"dom0-mem-{value}", xen=f"dom0_mem={value}")
    line = machine.expect_line(r"(?i)dom0_mem|domain 0[^\n]* memory|memory[^\n]* domain 0|Linux version|"
                               r"not enough RAM|out of memory", 60)
    if "Linux version" in line:
        # Silent only if the size was one that works.
        machine.expect_line(r"Run /init as init process", 60)
    no_backtrace_of_ours(machine)


def test_malformed_dom0_mem_is_ignored(slot):
    machine = start(slot, "dom0-mem-text", xen="dom0_mem=plenty")
    machine.expect(r"Linux version", 60)
    machine.expect(r"Run /init as init process", 60)
    no_backtrace_of_ours(machine)


@pytest.mark.parametrize("memory", [32, 80])
def test_too_little_memory(slot, memory):
    machine = start(slot, f"memory-{memory}", memory=memory)
    machine.expect_line(r"(?i)too little memory|not enough (memory|RAM)|out of memory|no memory|"
                   r"unable to allocate", 30)
    no_backtrace_of_ours(machine)
