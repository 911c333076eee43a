"""HVM guests (type="hvm") by the stock tools: hvmloader, SeaBIOS, and QEMU as device model run a boot
sector of ours, Debian through its own GRUB, and what comes on CD-ROMs.  Emulated SVM makes each
access to a device dear: the BIOS alone takes seconds."""

import os
import re
import subprocess

import pytest

import machine as m
import rfb


def create(host, name, boot_sector, **settings):
    """Its words on the serial port are in /var/log/NAME.serial."""
    host.check(f"base64 -d >/root/{name}.img <<'END'\n{boot_sector}END\n"
               f"truncate -s 1M /root/{name}.img; rm -f /var/log/{name}.serial")
    host.create(name, login=False, **(dict(
        type="hvm", memory=128, vnc=1, disk=[m.disk(f"/root/{name}.img", "hda")],
        serial=f"file:/var/log/{name}.serial") | settings))


def says(host, name, what, seconds=120):
    host.wait_for(f"grep -q '{what}' /var/log/{name}.serial", seconds, pause=2)


@pytest.mark.slow
def test_boot_sector(host, boot_sector):
    """Firmware, disk, serial port, timer and keyboard of the emulated PC; its end leaves nothing."""
    before = host.free_memory()
    create(host, "pc", boot_sector)
    says(host, "pc", "boot sector runs", 240)
    says(host, "pc", "second sector read")
    says(host, "pc", "the timer ticks")
    # While it waits for its device model or for anything, it can be paused and goes on.
    host.check("xl pause pc; xl list pc; xl unpause pc")
    host.check("xl destroy pc", 60)
    host.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)


@pytest.mark.slow
def test_device_model_dies(host, boot_sector):
    """The guest stands still, nobody else notices, and it can be destroyed."""
    before = host.free_memory()
    create(host, "orphan", boot_sector, memory=32)
    says(host, "orphan", "boot sector runs", 240)
    host.check("pkill -9 -f qemu-system.*orphan; sleep 2; xl list")
    host.check("xl pause orphan; xl vcpu-list orphan; xl unpause orphan; xl destroy orphan", 60)
    host.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)


UUID = "2f8a4c36-1d1e-4b7a-9a55-0123456789ab"
MAC = "00:16:3e:00:00:07"


def create_pc(host, name, **settings):
    """A guest that starts from its own disk as the PC's BIOS finds it.  BIOS and GRUB read an AHCI
    disk by DMA; one at IDE gives each of its words by a #VMEXIT."""
    host.create(name, login=False, **(dict(
        type="hvm", memory=256, vcpus=2, vnc=1, serial="pty", uuid=UUID, hdtype="ahci",
        disk=[m.disk("one", "hda")]) | settings))


def same_on_both_ways(host, name):
    """The disk's contents by the emulated controller and by the para-virtual driver."""
    sums = host.guest(name, "sync; for d in sda xvda; do dd if=/dev/$d bs=1M skip=64 count=4"
                      " iflag=direct 2>/dev/null | sha256sum; done", 120).split("\n")
    assert len(sums) == 2 and sums[0] == sums[1]


@pytest.mark.slow
def test_debian(host):
    """An unmodified Debian kernel from a disk through GRUB, and the para-virtual drivers in it."""
    before = host.free_memory()
    create_pc(host, "debian", vif=[f"mac={MAC}"])
    said = host.guest("debian", "uname -r; cat /proc/cmdline", 300)
    assert "-amd64" in said and "BOOT_IMAGE=/boot/vmlinuz" in said
    assert host.guest("debian", "cat /sys/hypervisor/type /sys/hypervisor/guest_type; nproc"
                      ).split() == ["xen", "HVM", "2"]
    # One identity everywhere.
    assert host.guest("debian", "cat /sys/class/dmi/id/product_uuid /sys/hypervisor/uuid").split() \
        == [UUID, UUID]
    assert host.guest("debian", "cat /sys/class/net/eth0/address") == MAC
    # The emulated card has gone for the para-virtual one; QEMU 7.2 takes no AHCI disk away.
    assert host.guest("debian", "ls /sys/block /sys/class/net").split() == \
        ["/sys/block:", "sda", "xvda", "/sys/class/net:", "eth0", "lo"]
    same_on_both_ways(host, "debian")
    interrupts = host.guest("debian", "grep ahci /proc/interrupts").split()
    assert "PCI-MSI" in interrupts and int(interrupts[1]) + int(interrupts[2]) > 0
    host.guest("debian", "ping -c 2 -W 5 10.0.2.15")
    total = int(host.guest("debian", "awk '/MemTotal/ { print $2 }' /proc/meminfo"))
    assert 176 << 10 < total <= 256 << 10
    assert host.check("xl vcpu-list debian").count(" -b-") + \
        host.check("xl vcpu-list debian").count(" r--") >= 2
    host.guest("debian", "echo kept >/root/kept; sync")
    host.check("xl shutdown -w debian", 90)
    host.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)


@pytest.mark.slow
def test_maximum(host):
    """More memory later: populated on demand, under the BIOS and its device model, too."""
    before = host.free_memory()
    create_pc(host, "pc", maxmem=384)
    host.guest("pc", "true", 400)
    memory = f"xenstore-read /local/domain/{host.domid('pc')}/memory/"
    video = int(host.check(memory + "videoram")) >> 10 # which no balloon knows of
    listed = "$(xl list pc | awk 'NR == 2 { print $3 }')"
    for mib in (256, 384, 200, 256):
        host.check(f"xl mem-set pc {mib}")
        host.wait_for(f"[ {listed} -ge {mib - video - 1} ] && [ {listed} -le {mib - video + 1} ]", 60)
        assert int(host.check(memory + "target")) == mib - video << 10
        inside = int(host.guest(
            "pc", "cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb")) >> 10
        assert abs(inside + video - int(host.check(f"echo {listed}"))) <= 1
    host.guest("pc", "head -c 100M /dev/zero | tail -c 99M | wc -c")
    host.check("xl destroy pc", 60)
    host.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)


@pytest.mark.slow
def test_uefi(host):
    """The same disk by OVMF and its EFI system partition."""
    create_pc(host, "uefi", bios="ovmf", memory=512) # GRUB asks for half, for its kernel
    said = host.guest("uefi", "ls /sys/firmware/efi; cat /proc/cmdline /sys/hypervisor/guest_type", 300)
    assert "runtime" in said and "BOOT_IMAGE=/boot/vmlinuz" in said and "HVM" in said
    host.check("xl shutdown -w uefi", 90)


def loaded(host):
    """Settings for a guest whose kernel the device model loads, and its initramfs with all drivers."""
    # The guest before may have been destroyed: its journal is left as it is.
    host.check("mount -o ro,noload,loop,offset=1048576 /var/lib/guests/one.img /mnt && cp /mnt/boot/initrd"
               " /root/initrd-pc && umount /mnt")
    return dict(kernel="/boot/guest/vmlinuz-amd64", ramdisk="/root/initrd-pc")


@pytest.mark.slow
def test_ide(host):
    """An IDE disk goes when the para-virtual driver of the same one asks for it."""
    create_pc(host, "pc", hdtype="ide", extra="root=/dev/xvda1 console=ttyS0 quiet", **loaded(host))
    assert host.guest("pc", "ls /sys/block", 300).split() == ["xvda"]
    host.check("xl shutdown -w pc", 90)


@pytest.mark.slow
def test_large(slot):
    """Memory on both sides of the hole below 4 GiB, 32 vCPUs, a CPU with less than the machine's, and
    the power button."""
    host = slot.shared("large", cpus=2, memory=8192, xen="loglvl=all guest_loglvl=all")
    assert "sse4_2" in host.check("grep -m 1 flags /proc/cpuinfo")
    # Until a kernel has all of its timers, each CPU has 250 interrupts a second: of so many they are
    # more than an emulated machine can exchange vCPUs for. Most begin later.
    create_pc(host, "large", memory=5120, vcpus=32, cpuid="host,sse4.2=0", vif=[f"mac={MAC}"],
              hdtype="ide", extra="root=/dev/xvda1 console=ttyS0 quiet maxcpus=4", **loaded(host))
    assert host.guest("large", "nproc", 300) == "4"
    host.guest("large", "for f in /sys/devices/system/cpu/cpu*/online; do [ $(cat $f) = 1 ] || echo 1 >$f;"
               " done", 300)
    assert host.guest("large", "nproc; taskset -c 31 sh -c 'echo $((6*7))'") == "32\n42"
    flags = host.guest("large", "grep -m 1 flags /proc/cpuinfo").split()
    assert "sse4_1" in flags and "sse4_2" not in flags
    ram = [[int(end, 16) for end in line.split(":")[0].split("-")]
           for line in host.guest("large", "grep 'System RAM' /proc/iomem").split("\n")]
    assert max(end for _, end in ram) > 5 << 30 and not any(
        start < 0xf0000000 <= end for start, end in ram)
    # So much of it, written and read again, that it cannot all be on one side of the hole.
    host.guest("large", "mkdir -p /tmp/m; mount -t tmpfs -o size=95% none /tmp/m; head -c 64M /dev/urandom"
               " >/tmp/m/a; all() { for i in $(seq 24); do cat /tmp/m/a; done; }; all >/tmp/m/b;"
               " all | cmp - /tmp/m/b && rm /tmp/m/b", 400)
    host.guest("large", "event=$(awk -v RS= '/Power Button/ && match($0, /event[0-9]+/)"
               " { print substr($0, RSTART, RLENGTH); exit }' /proc/bus/input/devices);"
               " (head -c 24 /dev/input/$event | od -An -tu2 -j 16 -N 8 >/tmp/button) & sleep 1")
    host.check("xl trigger large power")
    # Type EV_KEY, KEY_POWER, pressed (linux/input-event-codes.h).
    assert host.guest("large", "for i in $(seq 20); do [ -s /tmp/button ] && break; sleep 1; done;"
                      " cat /tmp/button", 90).split()[:3] == ["1", "116", "1"]
    host.check("xl destroy large", 90)


def filled(host, view, lines=16, tries=60):
    """The rows of the screen, once at least so many show anything: a menu in its frame."""
    for _ in range(tries):
        rows = view.rows()
        if sum(any(any(map(any, cell)) for cell in row) for row in rows) >= lines:
            return rows
        host.check("sleep 1")
    raise AssertionError("too little on the screen")


@pytest.mark.slow
def test_boot_menu(host):
    """GRUB's menu on the screen, and on the serial port what a key made it do."""
    create_pc(host, "pc", serial="file:/var/log/pc.serial")
    with rfb.Screen(host, host.vnc_port("pc")) as view:
        host.wait_for("xl dmesg | grep -q 'Booting from 0000:7c00'", 240)
        filled(host, view)
        assert (view.width, view.height) == (720, 400) # VGA's text mode
        # The last entry; a key ends the countdown, too.
        view.press_until_seen("down")
        view.press("\n")
        says(host, "pc", "loading Debian on emulated devices", 60)
    # In the middle of its start: what the back ends are still busy with, stock xl may fail to take away.
    host.run("xl destroy pc", 60)
    host.wait_for("! xl domid pc", 30)


@pytest.mark.slow
def test_emulated_devices(host):
    """A kernel that keeps the emulated devices: its disk is that one, for Linux then refuses the
    para-virtual one of the same number; its card is there twice."""
    create_pc(host, "pc", vif=[f"mac={MAC}, model=e1000"], **loaded(host),
              extra="root=/dev/sda1 console=ttyS0 xen_emul_unplug=unnecessary quiet")
    assert "unplug=unnecessary" in host.guest("pc", "cat /proc/cmdline", 300)
    assert host.guest("pc", "ls /sys/block").split() == ["sda"]
    assert "does not support vbd 768" in host.guest("pc", "dmesg | grep blkfront")
    drivers = host.guest("pc", "for c in /sys/class/net/eth*; do basename $(readlink $c/device/driver);"
                         " cat $c/address; done").split()
    assert sorted(drivers) == sorted(["e1000", MAC, "vif", MAC])
    host.check("xl destroy pc; rm /root/initrd-pc", 60)


@pytest.mark.slow
def test_cd_rom(host):
    """Debian's GRUB rescue CD-ROM starts; another is put into the drive, and none."""
    iso = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
    host.check("truncate -s 3M /root/other.iso")
    create_pc(host, "cd", memory=128, vcpus=1, boot="d",
              disk=[f"format=raw, vdev=hdc, access=ro, devtype=cdrom, target={iso}"])
    tty = host.check(f"xenstore-read /local/domain/{host.domid('cd')}/serial/0/tty")
    assert tty.startswith("/dev/pts/")
    with rfb.Screen(host, host.vnc_port("cd")) as view:
        host.wait_for("xl dmesg | grep -q 'Booting from 0000:7c00'", 240)
        filled(host, view, lines=3, tries=240)
        # A shell in a graphical mode: what is typed appears.
        host.check("sleep 3")
        before = view.lit()
        view.type("echo typed\n")
        host.check("sleep 5")
        assert view.lit() != before
    host.check("xl cd-insert cd hdc /root/other.iso")
    assert "/root/other.iso" in host.check(
        "xenstore-ls /local/domain/0/backend | grep params; xl block-list cd")
    host.check("xl cd-eject cd hdc")
    assert "other.iso" not in host.check("xenstore-ls /local/domain/0/backend | grep params")
    host.check("xl destroy cd", 60)


@pytest.mark.slow
def test_memtest(host):
    """memtest86+, which finds its own way about the machine: a whole pass over 32 MiB, no error."""
    create_pc(host, "memtest", memory=32, vcpus=1, disk=[], kernel="/boot/memtest86+x64.bin",
              extra="console=ttyS0,115200 nopause", serial="file:/var/log/memtest.serial")
    said = host.wait_for("grep -aoE '[0-9.]+[KMG]B of [0-9.]+MB|Pass: +1 +Errors: +[0-9]+'"
                         " /var/log/memtest.serial | grep -m 1 -B 1 Pass:", 400, pause=5)
    size, errors = re.fullmatch(r".* of ([0-9.]+)MB\nPass: +1 +Errors: +([0-9]+)", said).groups()
    assert float(size) > 20 and errors == "0", said
    host.check("xl destroy memtest", 60)


@pytest.fixture
def installer(slot):
    """A machine whose second disk is a CD-ROM of Debian's installer."""
    subprocess.run([os.path.join(m.TOP, "system", "guest", "installer")], check=True)
    return slot.shared("installer", cpus=2, memory=4096, xen="loglvl=all guest_loglvl=all",
                       extra_disks=[os.path.join(m.BUILD, "guest", "installer.iso")])


class Dialogs:
    """A guest's serial port whose user is asked questions."""

    def __init__(self, host, name):
        self.host, self.log = host, f"/var/log/{name}.serial"
        self.tty = host.check(f"xenstore-read /local/domain/{host.domid(name)}/serial/0/tty")
        host.check(f"(cat {self.tty} >>{self.log} 2>&1 &) </dev/null >/dev/null 2>&1")

    def asks(self, question, seconds):
        """Waits for a text since the last answer."""
        self.host.wait_for(f"grep -qa '{question}' {self.log}", seconds, pause=2)

    def answer(self, keys):
        self.host.check(f"sleep 2; : >{self.log}; printf '{keys}' >{self.tty}")


@pytest.mark.slow
def test_installer(installer):
    """Debian's installer from a CD-ROM asks, is answered, and finds a network by DHCP; all else it takes
    from a mirror, where there is one."""
    host = installer
    host.check("truncate -s 2G /root/empty.img")
    create_pc(host, "new", memory=1280, vcpus=1, boot="d", vif=[f"mac={MAC}"],
              disk=[m.disk("/root/empty.img", "hda"),
                    "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/dev/vdb"])
    port = Dialogs(host, "new")
    port.asks("Select a language", 600) # 50 MB are read by programmed I/O
    for question in ("Select your location", "Keymap to use", "Please enter the hostname"):
        port.answer("\\r")
        port.asks(question, 300)
    host.check("xl destroy new", 60)
