"""The ways to boot, numbers of CPUs, sizes of memory, and domain 0's own drivers.  Each boot
combines one of each, so that all values occur with few boots."""

import base64
import os
import re

import pytest

import machine as m
import screen

#                way      cpus  MiB    disk      card
COMBINATIONS = [
    pytest.param("bios1", 1, 1024, "ahci", "e1000e", id="grub-bios-mb1-1cpu-1G-ahci-e1000e"),
    pytest.param("bios2", 2, 2048, "nvme", "virtio", id="grub-bios-mb2-2cpu-2G-nvme-virtio"),
    pytest.param("efi", 8, 3072, "virtio", "e1000e", id="ovmf-mb2-8cpu-3G-virtio-e1000e"),
    pytest.param("kernel", 2, 6144, "ahci", "virtio", id="kernel-2cpu-6G-ahci-virtio"),
    pytest.param("kernel", 8, 16384, "nvme", "e1000e", id="kernel-8cpu-16G-nvme-e1000e",
                 marks=pytest.mark.slow),
    pytest.param("efi", 1, 4096, "ahci", "virtio", id="ovmf-mb2-1cpu-4G-ahci-virtio",
                 marks=pytest.mark.slow),
]

DISK = {"virtio": "vda", "ahci": "sda", "nvme": "nvme0n1"}
DRIVER = {"virtio": "virtio_net", "e1000e": "e1000e"}


def check_screen(host, monitor, way):
    """Domain 0's first terminal is on the machine's screen, in the mode in which it was started."""
    row = base64.b64encode(screen.ASCII.encode()).decode()
    host.check(f"echo {row} | base64 -d >/tmp/row; (printf '\\033c\\033[?25l'; head -c 78 /tmp/row;"
               " printf '\\n'; tail -c +79 /tmp/row; printf '\\nwords of domain 0') >/dev/tty1; sleep 2")
    picture = monitor.picture()
    wide = 9 if way in ("kernel", "bios1") else 8 # VGA text: one more column of points
    size = host.run("cat /sys/class/graphics/fb0/virtual_size").output.strip()
    assert f"{picture[0]},{picture[1]}" == size if wide == 8 else picture[:2] == (720, 400)
    rows = screen.cells(picture, wide)
    glyphs = screen.learn(rows[0][:78] + rows[1])
    assert screen.text(rows[2:], glyphs).strip() == "words of domain 0"


@pytest.mark.parametrize("way, cpus, memory, disk, card", COMBINATIONS)
def test_boot(slot, way, cpus, memory, disk, card):
    dom0_mem = 512 if memory <= 1024 else 1024
    monitor = screen.Monitor()
    host = slot.start(f"boot-{way}-{cpus}-{memory}", qemu=monitor.options, boot=way, cpus=cpus, memory=memory, disk=disk,
                      net=card, xen=f"dom0_mem={dom0_mem}M")
    host.boot(120)

    # CPUs and memory: what the hypervisor found is what the machine has.
    info = dict(re.findall(r"^(\w+)\s*: (.*)$", host.check("xl info"), re.M))
    assert int(info["nr_cpus"]) == cpus
    assert memory - 64 <= int(info["total_memory"]) <= memory
    assert int(host.check("nproc")) == cpus
    total = int(host.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024
    # The kernel keeps its own text and the page array for itself.
    assert dom0_mem - 160 - memory // 32 < total <= dom0_mem
    free = int(info["free_memory"])
    assert memory - dom0_mem - 256 < free < memory - dom0_mem

    # All CPUs run, and not all vCPUs on one.
    host.check(f"for i in $(seq {cpus}); do (for ((n = 0; n < 5000; n++)); do :; done) & done; wait",
               60)
    used = re.findall(r"Domain-0\s+0\s+\d+\s+(\d+)\s+[rb-]+\s+(\S+)", host.check("xl vcpu-list"))
    assert len(used) == cpus
    assert all(float(seconds) > 0 for _, seconds in used)

    # Disk and card with the drivers that belong to them, interrupts counted at the right kind.
    source = host.check("findmnt -n -o SOURCE / || awk '$2 == \"/\" { print $1 }' /proc/mounts")
    assert DISK[disk] in source
    host.check("dd if=/dev/urandom of=/root/data bs=1M count=8 && sync && sha256sum /root/data"
               " >/root/sum && echo 3 >/proc/sys/vm/drop_caches && sha256sum -c /root/sum", 60)
    driver = host.check("basename $(readlink /sys/class/net/eth0/device/driver)")
    assert driver == DRIVER[card]
    host.wait_for("ip -4 address show xenbr0 | grep -w inet", 30)
    host.check("ping -c 2 -W 5 10.0.2.2")
    interrupts = host.check("cat /proc/interrupts")
    kind = r"xen-pirq\s+-?msi" if card == "e1000e" or disk != "virtio" else r"xen-pirq"
    assert re.search(kind, interrupts), interrupts
    assert re.search(r"xen-pirq\s+-?ioapic", interrupts), interrupts

    check_screen(host, monitor, way)

    # One small guest shows that the rest works in this machine, too.
    host.create("one", memory=160, disk=[m.disk("one")],
                vif=["mac=00:16:3e:00:00:01, bridge=xenbr0"])
    assert host.guest("one", "echo 6*7 = $((6*7))") == "6*7 = 42"
    host.guest("one", "ping -c 2 -W 5 10.0.2.15")
    host.check("xl destroy one")

    host.check("(sleep 1; poweroff) >/dev/null 2>&1 </dev/null &")
    host.wait_end(60)


def test_reboot(slot):
    """With reboots allowed QEMU comes back to the firmware and all starts again."""
    host = slot.start("reboot", qemu=["-action", "reboot=reset"], cpus=2)
    host.boot()
    first = host.check("cat /proc/sys/kernel/random/boot_id")
    host.check("(sleep 1; reboot) >/dev/null 2>&1 </dev/null &")
    host.boot()
    host.tag += 100
    assert host.check("cat /proc/sys/kernel/random/boot_id") != first


def our_font():
    """{cell: character} of the hypervisor's font for graphics modes, from its source."""
    with open(os.path.join(m.TOP, "hypervisor", "console", "framebuffer.c"), encoding="utf-8") as file:
        table = re.search(r"font\[.*?= \{(.*?)\};", file.read(), re.S).group(1)
    glyphs = {}
    for number, columns in enumerate(re.findall(r"\{(0x.*?)\}", table)):
        columns = [int(column, 16) for column in columns.split(",")]
        glyphs[tuple(bytes(x < 5 and columns[x] >> y & 1 for x in range(6)) for y in range(8))] = \
            chr(32 + number)
    assert len(glyphs) == 95
    return glyphs


@pytest.mark.parametrize("way", ["efi", pytest.param("bios2", marks=pytest.mark.slow)])
def test_messages_on_the_screen(slot, way):
    """In a graphics mode too, the hypervisor's messages are read on the screen."""
    monitor = screen.Monitor()
    host = slot.start("screen-" + way, qemu=monitor.options, boot=way, kernel="none", initrd="none",
                      agent=False, xen="noreboot=1 console=com1,vga loglvl=all")
    host.expect_line("no domain 0 kernel", 60)
    shown = screen.text(screen.cells(monitor.picture(), 6, 8), our_font())
    for line in re.findall(r"^(\(trilby\) .*?)\r*$", host.console(), re.M):
        assert line[:170] in shown, (line, shown)
