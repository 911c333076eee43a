"""Disks and network cards of para-virtualized guests: many of them, of every kind, attached and
detached under load, and nothing left over when their guest dies in the middle of it."""

import random
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
    """Free memory of the hypervisor to the page, with what it spends on domain 0, which grows with
    the number of grants that domain 0 ever had mapped at once.  To the MiB without Trilby's keys."""
    log = host.check("xl debug-keys qM; xl dmesg | tail -n 60")
    free = re.findall(r"memory: (\d+) of \d+ pages free", log)
    spent = re.findall(r"d0: refs .* overhead (\d+),", log)
    if not free:
        return int(host.check("xl info free_memory")) << 8
    return int(free[-1]) + int(spent[-1])


def settled_pages(host):
    """The same when all domains, devices and backends of guests are gone."""
    host.wait_for("[ $(xl list | wc -l) = 2 ] && ! ls /sys/class/net | grep -E '^vif' &&"
                  " [ -z \"$(ls /sys/bus/xen-backend/devices)\" ]", 60)
    # Freed memory is counted once all CPUs have passed a grace period.
    log = host.check("sleep 1; xl debug-keys g; xl dmesg | tail -n 20")
    mapped = re.findall(r"d0: grant table: .* (\d+) of \d+ handles", log)
    assert not mapped or mapped[-1] == "0", log
    return free_pages(host)


def audit(host):
    """The hypervisor recounts references and types, and domain 0's kernel has nothing to say."""
    # Page tables that change meanwhile are miscounted, others each time; errors of ours stay.
    for _ in range(8):
        log = host.check("xl debug-keys M; xl dmesg | tail -n 12")
        if not re.search(r"[1-9]\d* errors", log):
            break
    else:
        raise AssertionError(log)
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
    """A copy of guest one's disk that runs a script once it is up; its output goes to the
    console, where a line of it may follow the login prompt."""
    host.check(f"set -e; cp --sparse=always {IMAGES}/one.img {FILES}/{name}.img\n"
               f"mount -o loop,offset=1048576 {FILES}/{name}.img /mnt\n"
               f"cat >/mnt/root/job <<'END'\nexport PATH=/usr/sbin:/usr/bin\n{script}\nEND\n"
               "echo '::once:/bin/bash -c \"bash /root/job >/dev/hvc0 2>&1\"' >>/mnt/etc/inittab\n"
               "umount /mnt", 60)
    return disk(name + ".img")


def sums(text):
    """{name: checksum} of lines "name checksum ..."."""
    return dict(re.findall(r"(\S+) ([0-9a-f]{64})\b", text))


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


@pytest.mark.slow
def test_twenty_eight_disks(host, files):
    """xvda to xvdz and on to xvdab; each carries data both ways."""
    # Stock libxl starts all hotplug scripts of a creation at once and gives them 40 seconds, too few
    # for these on the emulated CPU: nine files at creation, the others block devices one by one.
    names = list(LETTERS) + ["aa", "ab"]
    host.check(f"cd {files}; for d in {' '.join(names)}; do head -c 2M /dev/urandom >$d; truncate"
               " -s 4M $d; done", 60)
    # The stock front end keeps 4 MiB of pages for each of a disk's queues.
    host.create("one", memory=640, vcpus=2, seconds=120,
                disk=[ROOT] + [disk(name, "xvd" + name) for name in names[:9]])
    for name in names[9:]:
        host.check(f"loop=$(losetup -f --show {files}/{name}) && xl block-attach one"
                   f" format=raw,vdev=xvd{name},access=rw,target=$loop", 60)
    assert len(host.check("xl block-list one").splitlines()) == 1 + len(names) + 1
    seen = host.guest("one", "for i in $(seq 60); do [ -b /dev/xvdab ] && break; sleep 1; done; cd /dev;"
                             f" for d in {' '.join(names)}; do head -c 2M /dev/urandom >/tmp/$d;"
                             " dd if=/tmp/$d of=xvd$d bs=64k seek=32 oflag=direct 2>/dev/null;"
                             " echo in.$d $(dd if=xvd$d bs=64k count=32 iflag=direct 2>/dev/null |"
                             " sha256sum); echo out.$d $(sha256sum </tmp/$d); rm /tmp/$d; done", 240)
    there = host.check(f"cd {files}; for d in {' '.join(names)}; do"
                       " echo in.$d $(head -c 2M $d | sha256sum);"
                       " echo out.$d $(tail -c 2M $d | sha256sum); done", 60)
    assert len(sums(there)) == 2 * len(names)
    assert sums(seen) == sums(there)
    audit(host)


@pytest.mark.slow
def test_kinds_of_disks(host, files):
    """Large and sparse, large blocks, discard, logical volumes outside and inside, partitions."""
    host.check(f"cd {files}; truncate -s 3T big; truncate -s 64M blocks volumes; truncate -s 48M inner;"
               " head -c 32M /dev/urandom >trim; losetup -b 4096 /dev/loop40 blocks;"
               " losetup /dev/loop41 volumes; pvcreate -qq /dev/loop41 && vgcreate -qq store"
               " /dev/loop41 && lvcreate -qqy -L 24M -n one store")
    host.create("one", memory=224, vcpus=2, disk=[
        ROOT, disk("big", "xvdb"), disk("/dev/loop40", "xvdc"), disk("/dev/store/one", "xvdd"),
        disk("inner", "xvde"), disk("trim", "xvdf")])
    domid = host.domid("one")

    def guest(command, seconds=60):
        return host.guest("one", command, seconds)

    # What the back end offers, the front end uses: several queues, persistent grants, indirect
    # descriptors, flushes.
    log = guest("dmesg | grep blkfront:")
    assert len(re.findall(r"flush diskcache: enabled; persistent grants: enabled;"
                          r" indirect descriptors: enabled", log)) == 6, log
    front = host.check(f"xenstore-ls /local/domain/{domid}/device/vbd/51728")
    assert 'multi-queue-num-queues = "2"' in front and "queue-1" in front
    assert guest("ls /sys/block/xvdb/mq") == "0  1"

    # 3 TiB: the sectors are 64 bits wide all the way.
    assert guest("blockdev --getsize64 /dev/xvdb") == str(3 << 40)
    wrote = guest("head -c 1M /dev/urandom >/tmp/x; dd if=/tmp/x of=/dev/xvdb bs=1M seek=2900000"
                  " oflag=direct 2>/dev/null; sha256sum </tmp/x")
    assert host.check(f"dd if={files}/big bs=1M skip=2900000 count=1 2>/dev/null | sha256sum") == wrote
    guest("echo ',,L' | sfdisk -q --label gpt /dev/xvdb && for i in $(seq 20); do"
          " [ -b /dev/xvdb1 ] && break; sleep 0.5; done; [ $(blockdev --getsize64 /dev/xvdb1) -gt"
          " 3298500000000 ]")

    # Blocks of 4 KiB, and nothing smaller.
    assert guest("blockdev --getss --getpbsz /dev/xvdc | xargs") == "4096 4096"
    wrote = guest("dd if=/tmp/x of=/dev/xvdc bs=4096 seek=100 oflag=direct 2>/dev/null; sync;"
                  " dd if=/tmp/x of=/dev/xvdc bs=512 count=1 oflag=direct 2>&1 | head -1 >&2;"
                  " sha256sum </tmp/x")
    assert wrote.splitlines()[-1] == \
        host.check(f"dd if={files}/blocks bs=4096 skip=100 count=256 2>/dev/null | sha256sum")
    assert "Invalid argument" in wrote

    # A logical volume of domain 0.
    wrote = guest("dd if=/tmp/x of=/dev/xvdd bs=1M seek=3 oflag=direct 2>/dev/null; sha256sum </tmp/x")
    assert host.check("dd if=/dev/store/one bs=1M skip=3 count=1 iflag=direct 2>/dev/null |"
                      " sha256sum") == wrote

    # Partitions inside a disk and logical volumes inside a partition, with a file system.
    guest("printf '%s\\n' 'size=8M' ',,V' | sfdisk -q --label dos /dev/xvde && for i in $(seq 20); do"
          " [ -b /dev/xvde2 ] && break; sleep 0.5; done; pvcreate -qq /dev/xvde2 &&"
          " vgcreate -qq inside /dev/xvde2 && lvcreate -qqy -l 100%FREE -n data inside &&"
          " mke2fs -q /dev/inside/data && mount /dev/inside/data /mnt && cp /tmp/x /mnt/x &&"
          " umount /mnt && vgchange -qq -an inside", 120)

    # Discarded blocks leave the file of the back end.
    used = int(host.check(f"du -k {files}/trim | cut -f1"))
    guest("blkdiscard -o 8M -l 16M /dev/xvdf; sync")
    assert used - int(host.check(f"du -k {files}/trim | cut -f1")) == 16384
    assert host.check(f"dd if={files}/trim bs=1M skip=8 count=16 2>/dev/null | tr -d '\\0' | wc -c") == "0"

    # The same volume once more, seen by a new kernel after a hard end.
    guest("vgchange -qq -ay inside && mount -o sync /dev/inside/data /mnt && cp /tmp/x /mnt/y &&"
          " sync && sha256sum </tmp/x >/root/x.sum && sync")
    host.check("xl destroy one")
    host.wait_for("! losetup -a | grep -q inner", 30)
    host.create("one", memory=224, disk=[ROOT, disk("inner", "xvdb")])
    assert guest("vgchange -qq -ay inside && e2fsck -fp /dev/inside/data >/dev/null;"
                 " mount /dev/inside/data /mnt && cat /mnt/x | sha256sum; sha256sum </mnt/y;"
                 " cat /root/x.sum; umount /mnt", 120).splitlines()[-3:].count(wrote) == 3
    host.check("xl shutdown -w one", 90)
    # Domain 0 sees what the guest made.
    assert "inside" in host.check(f"losetup -P /dev/loop42 {files}/inner; sleep 1; pvs /dev/loop42p2")
    host.check("vgchange -qq -an inside; losetup -d /dev/loop42")
    audit(host)


LIVES = 20


@pytest.mark.slow
def test_guests_die_in_the_middle(host, files):
    """Two guests that read, write, send and receive as fast as they can are destroyed at any
    moment.  To the page, all comes back; domain 0 does not notice."""
    jobs = r"""
(while :; do dd if=/dev/xvdb of=/tmp/b bs=256k count=8 iflag=direct
    dd if=/tmp/b of=/dev/xvdb bs=256k oflag=direct; done) 2>/dev/null &
(while :; do dd if=/dev/urandom of=/root/fill bs=64k count=32 conv=fsync; done) 2>/dev/null &
until socat -u OPEN:/dev/null TCP:10.0.2.15:7001 2>/dev/null; do sleep 1; done
(while :; do socat -u OPEN:/dev/zero TCP:10.0.2.15:7001; done) 2>/dev/null &
(while :; do socat -u TCP:10.0.2.15:7002 OPEN:/dev/null; done) 2>/dev/null &
(while :; do ping -q -f -s 7000 -c 200 10.0.2.15; done) >/dev/null 2>&1 &
echo busy; wait"""
    for name in ("g1", "g2"):
        image_with_job(host, name, jobs)
    # Block devices: their scripts have nothing to do at the end, so a slow machine keeps the tools'
    # time limits.
    loops = host.check(f"cd {files}; truncate -s 8M b1 b2; for f in g1.img b1 g2.img b2; do"
                       " losetup -f --show $PWD/$f; done").split()

    def life(seconds):
        host.check("rm -f /var/log/xen/console/guest-g*.log")
        for n in (1, 2):
            host.create(f"g{n}", login=False, memory=160, vcpus=2, vif=[f"mac=00:16:3e:00:02:{n:02x}"],
                        disk=[disk(loops[2 * n - 2]), disk(loops[2 * n - 1], "xvdb")], seconds=120)
        # They wait for this, lest the first one makes the creation of the second one a long one.
        host.check("(socat -u TCP-LISTEN:7001,fork,reuseaddr OPEN:/dev/null &"
                   " socat -u TCP-LISTEN:7002,fork,reuseaddr EXEC:'cat /dev/zero' &) >/dev/null 2>&1")
        host.wait_for("grep -q busy /var/log/xen/console/guest-g1.log &&"
                      " grep -q busy /var/log/xen/console/guest-g2.log", 90, pause=1)
        host.check(f"sleep {seconds:.2f}; xl destroy g1 & xl destroy g2; wait; pkill -x socat;"
                   " pkill -x cat; true", 60)

    life(2)
    before = settled_pages(host)
    for _ in range(LIVES // 2):
        life(random.uniform(0, 3))
        after = settled_pages(host)
        audit(host)
        assert after == before
