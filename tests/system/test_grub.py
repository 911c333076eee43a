"""Debian's GRUB for Xen as the "kernel" of a guest: it reads the guest's own disk and starts the kernel
that lies there, as pygrub and grub-xen-host users have it."""

import pytest

from machine import disk

MENU = """\
set default=1
set timeout=0
menuentry wrong { halt }
menuentry own {
    echo loader says hello
    linux /boot/vmlinuz root=/dev/xvda1 console=hvc0 name=own chosen=$grub_platform
    initrd /boot/initrd
}
"""


@pytest.mark.parametrize("kind, image, platform", [
    ("pv", "grub-x86_64-xen.bin", "xen"),
    pytest.param("pvh", "grub-i386-xen_pvh.bin", "xen_pvh", marks=pytest.mark.slow),
])
def test_guest_boots_its_own_kernel(host, kind, image, platform):
    """The configuration names neither the kernel nor its command line. (It is not the cloud kernel,
    whose compression this GRUB does not know.)"""
    host.check(f"""
        cd /var/lib/guests
        cp --sparse=always one.img own.img
        mount -o loop,offset=$((2048 * 512)) own.img /mnt || exit 1
        mkdir -p /mnt/boot/grub
        cp /boot/guest/vmlinuz-amd64 /mnt/boot/vmlinuz && cp /boot/guest/initrd-amd64 /mnt/boot/initrd &&
        cat >/mnt/boot/grub/grub.cfg <<'END' && umount /mnt
{MENU}END""", 60)
    host.create("own", type=kind, kernel="/usr/lib/grub-xen/" + image, ramdisk="", extra="",
                memory=256, vcpus=2, vif=["mac=00:16:3e:00:00:07"],
                disk=[disk("own")])
    assert host.guest("own", "uname -r").endswith("-amd64")
    assert host.guest("own", "cat /sys/hypervisor/guest_type") == kind.upper()
    named = "BOOT_IMAGE=/boot/vmlinuz " if kind == "pvh" else "" # by GRUB's loader for PCs
    assert host.guest("own", "cat /proc/cmdline").strip() == \
        f"{named}root=/dev/xvda1 console=hvc0 name=own chosen={platform}"
    assert host.guest("own", "nproc") == "2"
    assert "loader says hello" in host.check("cat /var/log/xen/console/guest-own.log")
    # What GRUB held open in the back ends is free for the kernel's drivers.
    host.guest("own", "sync && ping -c 2 -W 5 10.0.2.15")
    total = int(host.guest("own", "awk '/MemTotal/ { print $2 }' /proc/meminfo"))
    assert 192 << 10 < total <= 256 << 10
    # A reboot goes through the loader again.
    host.run("/usr/lib/trilby/guest-run own reboot 5", 60)
    host.wait_login("own", boots=2)
    assert host.check("grep -c 'loader says hello' /var/log/xen/console/guest-own.log") == "2"
