"""Disks and network cards of para-virtualized guests: many of them, of every kind, attached and
detached under load, and nothing left over when their guest dies in the middle of it."""

import re

import pytest

IMAGES = "/var/lib/guests"
FILES = IMAGES + "/devices"
LETTERS = "bcdefghijklmnopqrstuvwxyz"

# What no kernel may say while guests come, go and die.
TROUBLE = (r"BUG|WARNING|Oops|general protection|Call Trace|soft lockup|hung task|blocked for more"
           r"|grant .*still in use|I/O error, dev (vd|loop)|map_grant_ref|Bad page")


def disk(target, vdev="xvda", access="rw"):
    if not target.startswith("/"):
        target = f"{FILES}/{target}"
    return f"format=raw, vdev={vdev}, access={access}, target={target}"


ROOT = disk(IMAGES + "/one.img")


def free_pages(host):
    """Free memory of the hypervisor, to the page if it has Trilby's debug key, else to the MiB."""
    found = re.findall(r"memory: (\d+) of \d+ pages free",
                       host.check("xl debug-keys M; xl dmesg | tail -n 40"))
    return int(found[-1]) if found else int(host.check("xl info free_memory")) << 8


def settled_pages(host):
    """The same when all domains, devices and backends of guests are gone."""
    host.wait_for("[ $(xl list | wc -l) = 2 ] && ! losetup -a | grep /guests/ &&"
                  " ! ls /sys/class/net | grep -E '^vif' &&"
                  " [ -z \"$(ls /sys/bus/xen-backend/devices)\" ]", 60)
    # Freed memory is counted once all CPUs have passed a grace period.
    host.check("sleep 1")
    return free_pages(host)


def audit(host):
    """The hypervisor recounts references and types, and domain 0's kernel has nothing to say."""
    log = host.check("xl debug-keys M; xl dmesg | tail -n 40")
    assert not re.search(r"[1-9]\d* errors", log), log
    noise = host.run(f"dmesg | grep -E '{TROUBLE}'")
    assert noise.status != 0, noise.output


@pytest.fixture
def files(host):
    """An empty folder in domain 0 for back-end files; gone afterwards."""
    host.check(f"rm -rf {FILES}; mkdir {FILES}")
    yield FILES
    if host.child.isalive():
        host.check("for id in $(xl list | awk 'NR > 1 && $2 > 0 { print $2 }'); do xl destroy $id;"
                   f" done; vgremove -qqfy store 2>/dev/null; losetup -D; rm -rf {FILES}", 90)


def image_with_job(host, name, script):
    """A copy of guest one's disk that runs a script once it is up; its output goes to the console."""
    host.check(f"set -e; cp --sparse=always {IMAGES}/one.img {FILES}/{name}.img\n"
               f"mount -o loop,offset=1048576 {FILES}/{name}.img /mnt\n"
               f"cat >/mnt/root/job <<'END'\nexport PATH=/usr/sbin:/usr/bin\n{script}\nEND\n"
               "echo '::once:/bin/bash -c \"bash /root/job >/dev/hvc0 2>&1\"' >>/mnt/etc/inittab\n"
               "umount /mnt", 60)
    return disk(name + ".img")


def sums(text):
    """{name: checksum} of lines "name checksum ..."."""
    return dict(re.findall(r"^(\S+) ([0-9a-f]{64})\b", text, re.M))


def test_disks_and_cards_come_and_go(host, files):
    """A read-only disk stays as it is; hot-plugged ones carry data; a missing one is refused."""
    host.check(f"cd {files}; head -c 4M /dev/urandom >ro; head -c 8M /dev/urandom >hot; cp hot copy")
    before = host.check(f"sha256sum {files}/ro")
    host.create("one", memory=192, vcpus=2, disk=[ROOT, disk("ro", "xvdb", "r")])

    # Read-only means read-only, even for a guest that makes its own kernel forget it.
    assert host.guest("one", "cat /sys/block/xvdb/ro; blockdev --setrw /dev/xvdb 2>/dev/null;"
                             " dd if=/dev/zero of=/dev/xvdb bs=4096 count=4 oflag=direct 2>/dev/null"
                             " && echo WRITTEN; sha256sum </dev/xvdb") == \
        "1\n" + before.split()[0] + "  -"
    assert host.check(f"sha256sum {files}/ro") == before

    # A disk and a card, attached while the first disk is busy.
    host.guest("one", "(while [ ! -e /tmp/stop ]; do dd if=/dev/xvda of=/dev/null bs=64k count=256"
                      " iflag=direct; done) >/dev/null 2>&1 &")
    host.check(f"xl block-attach one '{disk('hot', 'xvdc')}' && "
               "xl network-attach one mac=00:16:3e:00:00:09")
    host.guest("one", "for i in $(seq 60); do [ -b /dev/xvdc -a -e /sys/class/net/eth0 ] && break;"
                      " sleep 0.5; done; [ $(cat /sys/class/net/eth0/address) = 00:16:3e:00:00:09 ] &&"
                      " dd if=/dev/xvdc of=/tmp/x bs=1M count=4 iflag=direct 2>/dev/null &&"
                      " dd if=/tmp/x of=/dev/xvdc bs=1M seek=4 oflag=direct conv=fsync 2>/dev/null &&"
                      " ip address add 10.0.2.109/24 dev eth0 && ip link set eth0 up &&"
                      " ping -c 2 -W 10 -s 3000 10.0.2.15")
    host.check("xl network-detach one 0 && xl block-detach one xvdc")
    halves = host.check(f"cd {files}; for part in 'head -c 4M copy' 'head -c 4M hot' 'tail -c 4M hot';"
                        " do $part | sha256sum; done").splitlines()
    assert len(set(halves)) == 1, halves
    host.wait_for("! losetup -a | grep -q hot && ! ls /sys/class/net | grep -q vif", 30)
    host.guest("one", "touch /tmp/stop; [ ! -e /sys/class/net/eth0 -a ! -b /dev/xvdc ]")

    # What is not there, or is in use, is refused with its name, and leaves nothing.
    failed = host.run(f"xl block-attach one '{disk('none', 'xvdd')}'")
    assert failed.status != 0 and "No such file or directory" in failed.output
    assert "none" in failed.output and "xvdd" in failed.output
    loop = host.check(f"losetup -f --show {files}/hot")
    host.check(f"xl block-attach one '{disk(loop, 'xvde')}'")
    host.check("cat >/root/two.cfg <<'END'\nname = 'two'\nmemory = 128\n"
               f"kernel = '/boot/guest/vmlinuz-amd64'\ndisk = ['{disk(loop)}']\nEND")
    failed = host.run("xl create /root/two.cfg", 60)
    assert failed.status != 0
    assert f"Device {loop} is mounted in a guest domain" in \
        failed.output + host.check("cat /var/log/xen/xen-hotplug.log"), failed.output
    assert host.run("xl domid two").status != 0
    assert len(host.check("losetup -a").splitlines()) == 3
    audit(host)
