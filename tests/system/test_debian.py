"""A stock Debian 12 installation as domain 0: systemd, GRUB on its own disk, the Xen tools as Debian
starts them, libvirt. system/debian/build makes the disk; everything here is slow."""

import os
import re
import subprocess

import pytest

import machine as m

pytestmark = pytest.mark.slow

IMAGE = os.path.join(m.BUILD, "debian", "disk.img")
XML = """<domain type='xen'>
  <name>lv</name>
  <uuid>5d1f2a40-0b6c-4f4e-9d0e-6d1c3a9b7e55</uuid>
  <memory unit='MiB'>256</memory>
  <currentMemory unit='MiB'>192</currentMemory>
  <vcpu current='1'>2</vcpu>
  <os>
    <type arch='x86_64' machine='xenpv'>linux</type>
    <kernel>/boot/guest/vmlinuz-amd64</kernel>
    <initrd>/boot/guest/initrd-amd64</initrd>
    <cmdline>root=/dev/xvda1 console=hvc0 name=lv</cmdline>
  </os>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/guests/one.img'/><target dev='xvda' bus='xen'/>
    </disk>
    <interface type='bridge'>
      <mac address='00:16:3e:12:34:56'/><source bridge='xenbr0'/>
    </interface>
    <console type='pty'><target type='xen' port='0'/></console>
  </devices>
</domain>
"""


@pytest.fixture(scope="session")
def image():
    subprocess.run([os.path.join(m.TOP, "system", "debian", "build"), m.HYPERVISOR], check=True)
    return IMAGE


@pytest.fixture
def debian(slot, image):
    return slot.shared("debian", boot="disk", root=image, memory=4096, cpus=2)


def test_boots_whole(debian):
    """By GRUB from the disk, with no unit that failed."""
    assert "trilby" in debian.check("xl info xen_version")
    assert debian.run("systemctl is-system-running --wait", 300).output.strip() == "running"
    assert debian.check("systemctl --failed --no-legend --plain") == ""
    assert debian.check("ps -p 1 -o comm=") == "systemd"
    assert re.search(r"^Domain-0 +0 +1536 ", debian.check("xl list"), re.M)


def test_guest_by_xl(debian):
    debian.create("one", memory=192, disk=[m.disk("two")],
                  vif=["mac=00:16:3e:00:00:01, bridge=xenbr0"], seconds=180)
    # It is not domain 0's own kernel, which may be of a later day than our images.
    with open(os.path.join(m.BUILD, "cache", "sets", "kernel"), encoding="utf-8") as packages:
        release = re.search(r"^linux-image-([0-9.-]+-amd64)_", packages.read(), re.M).group(1)
    assert debian.guest("one", "uname -r") == release
    debian.check("xl shutdown -w one", 120)


def virsh(host, command, seconds=60):
    return host.check(f"virsh -c xen:///system {command}", seconds)


@pytest.fixture
def lv(debian):
    if "lv" not in virsh(debian, "list --all --name").split():
        debian.check(f"cat >/root/lv.xml <<'END'\n{XML}END")
        virsh(debian, "define /root/lv.xml")
    if "running" not in virsh(debian, "domstate lv"):
        debian.check("rm -f /var/log/xen/console/guest-lv.log")
        virsh(debian, "start lv", 180)
        debian.wait_login("lv")
    return debian


def info(host):
    return dict(re.findall(r"^([\w()]+(?: [\w()]+)*): +(.*)$", virsh(host, "dominfo lv"), re.M))


def test_libvirt_knows_the_host(debian):
    assert "<arch>x86_64</arch>" in virsh(debian, "capabilities")
    assert "xenpv" in virsh(debian, "capabilities")
    assert re.search(r"CPU\(s\): +2", virsh(debian, "nodeinfo"))
    assert "Domain-0" in virsh(debian, "list")


def test_libvirt_define_and_start(lv):
    assert info(lv)["State"] == "running" and info(lv)["CPU(s)"] == "1"
    assert virsh(lv, "domuuid lv").strip() == "5d1f2a40-0b6c-4f4e-9d0e-6d1c3a9b7e55"
    assert lv.guest("lv", "cat /sys/hypervisor/uuid") == "5d1f2a40-0b6c-4f4e-9d0e-6d1c3a9b7e55"
    assert virsh(lv, "domid lv").strip() == str(lv.domid("lv"))
    assert lv.guest("lv", "cat /sys/class/net/eth0/address") == "00:16:3e:12:34:56"
    assert "xvda" in virsh(lv, "domblklist lv")
    assert "00:16:3e:12:34:56" in virsh(lv, "domiflist lv")
    assert "<target dev='xvda'" in virsh(lv, "dumpxml lv")


def test_libvirt_memory_and_vcpus(lv):
    virsh(lv, "setmem lv 224M --live")
    lv.wait_for("xl list lv | awk 'NR == 2 { exit $3 != 224 }'", 30)
    assert int(info(lv)["Used memory"].split()[0]) == 224 * 1024
    virsh(lv, "setvcpus lv 2 --live")
    lv.guest("lv", "sleep 1; echo 1 >/sys/devices/system/cpu/cpu1/online 2>/dev/null; true")
    assert lv.guest("lv", "nproc") == "2"
    virsh(lv, "vcpupin lv 0 1 --live")
    assert re.search(r"^lv +\d+ +0 .* 1 / all$", lv.check("xl vcpu-list lv"), re.M)
    virsh(lv, "schedinfo lv --set weight=512")
    assert lv.check("xl sched-credit2 -d lv").split()[-2] == "512"


def test_libvirt_disk_comes_and_goes(lv):
    lv.check("truncate -s 8M /root/extra.img")
    virsh(lv, "attach-disk lv /root/extra.img xvdb --driver qemu --subdriver raw --live")
    assert lv.guest("lv", "cat /sys/block/xvdb/size") == "16384"
    virsh(lv, "detach-disk lv xvdb --live")
    lv.wait_for("! xl block-list lv | grep -q 51728", 30)


def test_libvirt_suspend_and_resume(lv):
    virsh(lv, "suspend lv")
    assert info(lv)["State"] == "paused"
    assert re.search(r"^lv .* --p--- ", lv.check("xl list lv"), re.M)
    virsh(lv, "resume lv")
    assert lv.guest("lv", "echo alive") == "alive"


def test_libvirt_native_configuration(debian):
    debian.check("cat >/root/n.cfg <<'END'\nname = \"n\"\nmemory = 128\nvcpus = 1\n"
                 "kernel = \"/boot/guest/vmlinuz-amd64\"\n"
                 "disk = [ \"format=raw, vdev=xvda, access=rw, target=/var/lib/guests/two.img\" ]\nEND")
    assert "<name>n</name>" in virsh(debian, "domxml-from-native xen-xl /root/n.cfg")


def test_libvirt_reboot_shutdown_destroy_undefine(lv):
    before = lv.domid("lv")
    virsh(lv, "reboot lv")
    lv.wait_for(f"[ \"$(xl domid lv)\" != {before} ] && xl domid lv", 90)
    lv.wait_login("lv", 2)
    virsh(lv, "shutdown lv")
    lv.wait_for("virsh -c xen:///system domstate lv | grep -q 'shut off'", 90)
    # libvirt calls it so before it has destroyed it, and does not start it before it has.
    lv.wait_for("[ \"$(virsh -c xen:///system domid lv)\" = - ]", 60)
    virsh(lv, "start lv", 120)
    virsh(lv, "destroy lv")
    lv.wait_for("! xl domid lv", 30)
    virsh(lv, "undefine lv")
    assert "lv" not in virsh(lv, "list --all --name").split()


def test_update_grub_finds_the_hypervisor(debian):
    before = debian.check("cat /boot/grub/grub.cfg")
    debian.check("update-grub", 120)
    assert debian.check("cat /boot/grub/grub.cfg") == before
    assert re.search(r"multiboot2\s+/boot/xen-trilby", before)


def test_power_off(debian, slot):
    debian.run("systemctl poweroff")
    debian.wait_end(120)
    slot.stop()
