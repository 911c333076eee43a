"""What a guest's work costs: one kernel and one initramfs, bare, under KVM, and as a PV and a PVH
guest of the hypervisor given, by all instructions that the machine executes.

bench/guests/init.c is the guest's first process and has the table of rows. The machine has one CPU
and the same model of it everywhere; no guest has devices.
"""
import struct
import subprocess
import time

from counts import END, OUT, Counts, pairs, rows_of

IMAGES = f"{OUT}/guest"
INIT, DONE = 3, 4                   # init.c
KINDS = ("pv", "pvh")
MEMORY = 256
# A nanosecond an instruction. By slower clocks the kernel's ticks, 4 ms apart, come after so few
# instructions that they cover what else there is.
CLOCK = ["-icount", "shift=0,sleep=off", "-seed", "1",
         # As system/qemu has it, without RDRAND, which is not the same every time, and RDTSCP, which
         # stock Xen cannot execute for a PVH guest on this CPU.
         "-cpu", "qemu64,+npt,+nx,+sse4.1,+sse4.2,+ssse3,+popcnt,+smep,+umip,+pdpe1gb,+fsgsbase"]
# Nothing random, no mitigations (Trilby has none), no huge pages, which PV guests cannot have.
LINE = "quiet nokaslr norandmaps mitigations=off transparent_hugepage=never"


def rows():
    return rows_of("bench/guests/init.c")


def entries():
    """The addresses at which the kernel begins: {"pv": virtual, "pvh": physical}, from its notes
    (xen/elfnote.h)."""
    with open(f"{IMAGES}/vmlinux", "rb") as f:
        head = f.read(64)
        at, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        f.seek(at)
        parts = [struct.unpack("<IIQQQQQQ", f.read(size)) for _ in range(count)]
        offset, length = next((part[2], part[5]) for part in parts if part[0] == 4)
        f.seek(offset)
        notes = f.read(length)
    found, at = {}, 0
    while at < len(notes):
        name, data, kind = struct.unpack_from("<III", notes, at)
        start = at + 12 + (name + 3 & ~3)
        if notes[at + 12:at + 16] == b"Xen\0" and kind in (1, 18):
            found["pv" if kind == 1 else "pvh"] = int.from_bytes(notes[start:start + data], "little")
        at = start + (data + 3 & ~3)
    return found


class NoEnd(SystemExit):
    """A guest that stopped on its way."""


def wait_for(counts, seen, alive, guests=1, seconds=1800, marker=DONE):
    """Until so many guests were done, each with one @marker; returns the lines after those @seen before
    they ran."""
    end = time.time() + seconds
    while sum(line[0] == marker for line in counts.lines()[seen:]) < guests:
        if time.time() > end or not alive():
            raise NoEnd(f"bench: the guest did not come to its end ({counts.path})")
        time.sleep(0.5)
    return counts.lines()[seen:]


def result(lines, entry):
    """{row: (all instructions, the hypervisor's)} of one guest's lines."""
    init = next(i for i, line in enumerate(lines) if line[0] == INIT)
    first = max(i for i in range(init) if lines[i][0] == entry)
    boot = tuple(lines[init][i] - lines[first][i] for i in (1, 2))
    names = ["boot"] + [name for name, _ in rows()]
    return dict(zip(names, [boot] + pairs(lines), strict=True))


def run_guest(m, counts, name):
    """The lines of the guest of which there is /root/NAME.cfg, when it has done its rows."""
    seen = len(counts.lines())
    # The answer to this is long over when the guest starts; nobody polls.
    m.check(f"xl create -qpe /root/{name}.cfg;"
            f"(sleep 2; xl unpause {name}) >/dev/null 2>&1 &", 120)
    lines = wait_for(counts, seen, m.child.isalive)
    m.check(f"xl destroy {name}", 120)
    return lines


def machine(tag, initramfs, memory, line, **until):
    """The lines of a kernel on the bare machine, until a guest, it itself or the one it runs, was
    done."""
    counts = Counts(tag, entries().values())
    qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-M", "q35", "-m", str(memory), "-smp", "1", "-nodefaults",
         "-display", "none", "-no-reboot", "-serial", f"file:{OUT}/{tag}.log",
         "-kernel", f"{IMAGES}/vmlinux", "-initrd", f"{IMAGES}/{initramfs}",
         "-append", line, *CLOCK, *counts.options],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return wait_for(counts, 0, lambda: qemu.poll() is None, **until)
    finally:
        qemu.kill()
        qemu.wait()


def bare(tag):
    return result(machine(tag, "guest.cpio", MEMORY, f"{LINE} console=ttyS0"), entries()["pvh"])


def under_kvm(tag, initramfs, memory, line=f"-- {LINE}", **until):
    """The lines of a guest of KVM, or none: in this emulation, with an instruction clock, some such
    machines come to a stand in a spin lock with interrupts off. Why is not known."""
    # The host's kernel reads no further than the two dashes; it may use huge pages, as Xen does.
    try:
        return machine(tag, initramfs, memory, f"quiet mitigations=off console=ttyS0 {line}", seconds=600,
                       **until)
    except NoEnd:
        return []


def kvm(tag):
    lines = under_kvm(tag, "host.cpio", 1280)
    return lines and result(lines, entries()["pvh"])


def kvm_operations(tag):
    """{operation: all instructions} of bench/ops-pvh as a guest of KVM, or none."""
    table = rows_of("bench/ops-pvh/main.c")
    lines = under_kvm(tag, "host.cpio", 1280, "ops", guests=len(table), marker=END)
    return {name: spent[0] / n for (name, n), spent in zip(table, pairs(lines))}


def guests(hypervisor, tag, machine_class):
    """{"pv": result, "pvh": result} of one boot of domain 0."""
    counts, results = Counts(tag, entries().values()), {}
    with machine_class(tag, hypervisor=hypervisor, cpus=1, memory=2048, net="none",
                       xen="spec-ctrl=no xpti=no", extra_disks=[f"{IMAGES}/guest.cpio"],
                       qemu=[*CLOCK, *counts.options]) as m:
        m.boot(600)
        m.check("cat /dev/vdb >/tmp/guest.cpio", 60)
        for kind in KINDS:
            m.put_config(kind, type=kind, memory=MEMORY, cpus="all", ramdisk="/tmp/guest.cpio",
                         extra=LINE, tsc_mode="native")
            results[kind] = result(run_guest(m, counts, kind), entries()[kind])
    return results
