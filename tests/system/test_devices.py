"""Disks and network cards of para-virtualized guests: many of them, of every kind, attached and
detached under load, and nothing left over when their guest dies in the middle of it."""

import hashlib
import os
import random
import re
import socket
import subprocess
import threading

import pytest

import machine as m

IMAGES = "/var/lib/guests"
FILES = IMAGES + "/devices"
LETTERS = "bcdefghijklmnopqrstuvwxyz"

# What no kernel may say while guests come, go and die.
TROUBLE = (r"BUG|WARNING|Oops|general protection|Call Trace|soft lockup|hung task|blocked for more"
           r"|grant .*still in use|I/O error, dev (vd|loop)|map_grant_ref|Bad page")


def disk(target, vdev="xvda", access="rw"):
    return m.disk(target if target.startswith("/") else f"{FILES}/{target}", vdev, access)


ROOT = disk(IMAGES + "/one.img")


def free_pages(host):
    """Free memory of the hypervisor to the page, with what it spends on domain 0, which grows with
    the number of grants that domain 0 ever had mapped at once.  To the MiB without Trilby's keys."""
    log = host.check("xl debug-keys qM; xl dmesg | tail -n 60")
    free = re.findall(r"memory: (\d+) of \d+ pages free", log)
    spent = re.findall(r"d0: refs .* overhead (\d+),", log)
    if not free:
        return host.free_memory() << 8
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
                   " done; for i in $(seq 60); do pgrep -f xen/scripts >/dev/null || break; sleep 1;"
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
    # for these on the emulated CPU: four files at creation, the others block devices one by one.
    names = list(LETTERS) + ["aa", "ab"]
    host.check(f"cd {files}; for d in {' '.join(names)}; do head -c 2M /dev/urandom >$d; truncate"
               " -s 4M $d; done", 60)
    # The stock front end keeps 4 MiB of pages for each of a disk's queues.
    host.create("one", memory=640, vcpus=2, seconds=120,
                disk=[ROOT] + [disk(name, "xvd" + name) for name in names[:4]])
    for name in names[4:]:
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
    # One by one here too: at the guest's end all scripts would run at once, out of their time.
    host.check(f"for d in {' '.join(names[4:])}; do xl block-detach one xvd$d || exit 1; done", 240)
    assert len(host.check("xl block-list one").splitlines()) == 1 + 5


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


CHURN = 50


@pytest.mark.slow
def test_disks_come_and_go_under_io(host, files):
    """One disk is attached, copied by the guest and detached again and again, sometimes while it
    is in use; another is busy all the time.  Nothing is left of any of them."""
    host.check(f"cd {files}; head -c 8M /dev/urandom >busy; head -c 2M /dev/urandom >half;"
               " sha256sum half")
    root = image_with_job(host, "churn", r"""
(while :; do dd if=/dev/xvdb of=/tmp/b bs=256k iflag=direct; sleep 0.1
    dd if=/tmp/b of=/dev/xvdb bs=256k oflag=direct; done) 2>/dev/null &
seen=no
while :; do
    if [ ! -b /dev/xvdc ]; then seen=no; sleep 0.1
    elif [ $seen = no ]; then
        dd if=/dev/xvdc of=/tmp/c bs=128k count=16 iflag=direct 2>/dev/null &&
            dd if=/tmp/c of=/dev/xvdc bs=128k seek=16 oflag=direct conv=fsync 2>/dev/null &&
            echo done | dd of=/dev/xvdc bs=512 count=1 seek=8192 conv=sync,fsync 2>/dev/null && seen=yes
        # Go on using it, so that it disappears below somebody.
        dd if=/dev/xvdc of=/dev/null bs=64k iflag=direct 2>/dev/null
    else dd if=/dev/xvdc of=/dev/null bs=64k iflag=direct 2>/dev/null
    fi
done""")
    host.create("one", memory=192, disk=[root, disk("busy", "xvdb")], login=False)
    busy = host.check(f"sha256sum <{files}/busy")
    expected = host.check(f"sha256sum <{files}/half")
    # Stock libxl gives the back end ten seconds to close. That may not do on a busy emulated CPU, so
    # it is asked again.
    script = f"""cd {files}; good=0
    for i in $(seq %d); do
        cp half hot; truncate -s 5M hot
        xl block-attach one '{disk('hot', 'xvdc')}' || exit 1
        for j in $(seq 300); do dd if=hot bs=512 skip=8192 count=1 2>/dev/null | grep -aq done &&
            break; sleep 0.1; done
        for try in 1 2 3 4 5 6; do xl block-detach one xvdc && break; done || exit 2
        for j in $(seq 100); do losetup -a | grep -q hot || break; sleep 0.1; done
        [ "$(dd if=hot bs=1M skip=2 count=2 2>/dev/null | sha256sum)" = '{expected}' ] && good=$((good + 1))
    done; echo good $good"""
    assert host.check(script % 2, 60).endswith("good 2")
    before = free_pages(host)
    assert host.check(script % CHURN, 10 * CHURN).endswith(f"good {CHURN}")
    assert free_pages(host) == before
    assert len(host.check("losetup -a | grep /guests/").splitlines()) == 2
    assert len(host.check("xl block-list one").splitlines()) == 3
    log = host.check("cat /var/log/xen/console/guest-one.log")
    assert not re.search(r"BUG|Oops|Call Trace", log), log[-2000:]
    audit(host)
    host.check("xl destroy one")
    assert host.check(f"sha256sum <{files}/busy") == busy


LIVES = 4


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
    for _ in range(LIVES):
        life(random.uniform(0, 3))
        after = settled_pages(host)
        audit(host)
        assert after == before


@pytest.mark.slow
def test_cards_come_and_go_under_traffic(host, files):
    """A card is attached, used and detached again and again while another one is busy. A copy that
    loses its card ends by the guest's own timeout: TCP would try for a quarter of an hour."""
    root = image_with_job(host, "churn", r"""
(while :; do ping -q -i 0.01 -s 7000 -c 100 10.0.2.15; done) >/dev/null 2>&1 &
while :; do
    if [ -e /sys/class/net/eth1 ]; then
        ip address add 10.1.1.2/24 dev eth1
        ip link set eth1 up
        while timeout 20 socat -u OPEN:/root/data TCP:10.1.1.1:7003; do :; done
    fi
done 2>/dev/null""")
    host.check(f"mount -o loop,offset=1048576 {files}/churn.img /mnt; head -c 1M /dev/urandom"
               " >/mnt/root/data; sha256sum </mnt/root/data >/run/data.sum; umount /mnt;"
               " ip link add churn0 type bridge forward_delay 0; ip link set churn0 up;"
               " ip address add 10.1.1.1/24 dev churn0")
    host.create("one", memory=192, vcpus=2, disk=[root], vif=["mac=00:16:3e:00:00:01"])
    script = """good=0
    for i in $(seq %d); do
        xl network-attach one mac=00:16:3e:00:00:99 bridge=churn0 || exit 1
        for j in $(seq 30); do
            [ "$(timeout 60 socat -u TCP-LISTEN:7003,reuseaddr - | sha256sum)" = "$(cat /run/data.sum)" ] &&
                { good=$((good + 1)); break; }
        done
        # Detached while the next copy is under way.
        (timeout 2 socat -u TCP-LISTEN:7003,reuseaddr OPEN:/dev/null &) 2>/dev/null; sleep 0.3
        for try in 1 2 3 4 5 6; do xl network-detach one 1 && break; done || exit 2
        for j in $(seq 100); do ls /sys/class/net | grep -q 'vif.*\\.1$' || break; sleep 0.1; done
    done; echo good $good"""
    assert host.check(script % 2, 60).endswith("good 2")
    before = free_pages(host)
    assert host.check(script % 10, 400).endswith("good 10")
    assert free_pages(host) == before
    assert len(host.check("ls /sys/class/net | grep vif").splitlines()) == 1
    log = host.check("cat /var/log/xen/console/guest-one.log")
    assert not re.search(r"BUG|Oops|Call Trace", log), log[-2000:]
    audit(host)
    host.check("xl destroy one; ip link del churn0")
    host.check("ip link show churn0 2>/dev/null; true")


@pytest.mark.slow
def test_eight_cards(host, files):
    """Each of eight cards has its own address, bridge and traffic; random addresses stay."""
    host.check("for n in 0 1 2 3 4 5 6 7; do ip link add many$n type bridge forward_delay 0;"
               " ip link set many$n up; ip address add 10.1.$n.1/24 dev many$n; done")
    given = {0: "00:16:3e:12:34:56", 1: "02:00:00:00:00:01", 2: "00:16:3e:ff:ff:fe"}
    host.create("one", memory=224, vcpus=2, disk=[ROOT],
                vif=[(f"mac={given[n]}, " if n in given else "") + f"bridge=many{n}" for n in range(8)],
                extra="root=/dev/xvda1 console=hvc0 name=one "
                      + " ".join(f"address=10.1.{n}.2/24" for n in range(8)))

    def addresses():
        return host.guest("one", "cd /sys/class/net; for n in 0 1 2 3 4 5 6 7; do"
                                 " cat eth$n/address; done").splitlines()
    have = addresses()
    assert len(set(have)) == 8
    for n, mac in enumerate(have):
        assert mac == given[n] if n in given else mac.startswith("00:16:3e:")
    # With two vCPUs on both sides each card has two queues.
    assert host.guest("one", "ls -d /sys/class/net/eth*/queues/[rt]x-* | wc -l") == "32"
    # Packets of each subnet go through their own card only.
    host.check("ok=0; for n in 0 1 2 3 4 5 6 7; do (head -c 1M /dev/urandom >/tmp/n$n; ping -c 3 -W 10"
               " -s 4000 10.1.$n.2 >/dev/null && touch /tmp/ok$n) & done; wait;"
               " ls /tmp/ok? | wc -l | grep -x 8; rm /tmp/ok?", 60)
    host.guest("one", "for n in 0 1 2 3 4 5 6 7; do (socat -u TCP-LISTEN:7004,bind=10.1.$n.2 CREATE:/tmp/n$n)"
                      " & done >/dev/null 2>&1; sleep 1")
    sent = host.check("for n in 0 1 2 3 4 5 6 7; do socat -u OPEN:/tmp/n$n"
                      " TCP:10.1.$n.2:7004,retry=20,interval=0.5 & done; wait; cd /tmp;"
                      " for n in 0 1 2 3 4 5 6 7; do echo n$n $(sha256sum <n$n); done", 60)
    got = host.guest("one", "wait; cd /tmp; for n in 0 1 2 3 4 5 6 7; do echo n$n $(sha256sum <n$n); done")
    assert len(sums(sent)) == 8 and sums(got) == sums(sent)
    received = host.guest("one", "cat /sys/class/net/eth[0-7]/statistics/rx_bytes").splitlines()
    assert all(1 << 20 < int(count) < 3 << 20 for count in received), received

    host.check("xl reboot one")
    host.wait_login("one", 2)
    assert addresses() == have
    # A second guest may carry the same address; nobody stops its owner.
    host.create("two", login=False, memory=128, disk=[disk(IMAGES + "/two.img")],
                vif=[f"mac={given[0]}, bridge=many7"])
    host.check("xl destroy two; xl destroy one")
    host.check("for n in 0 1 2 3 4 5 6 7; do ip link del many$n; done")
    audit(host)


@pytest.mark.slow
def test_eight_guests_talk(host, files):
    """Everybody sends to everybody at once, TCP and UDP, with large frames; all sums agree."""
    job = r"""
me=$(uname -n); me=${me#g}
peers=$(for n in 1 2 3 4 5 6 7 8; do [ $n = $me ] || echo $n; done)
head -c 2M /dev/urandom >/tmp/out
echo "out.$me $(sha256sum </tmp/out)"
(for n in $peers; do (socat -u TCP-LISTEN:$((5000 + n)),reuseaddr CREATE:/tmp/in.$n
    echo "in.$n.$me $(sha256sum </tmp/in.$n)"; rm -f /tmp/in.$n) & done; wait; touch /tmp/got) &
socat UDP-RECVFROM:6000,fork,reuseaddr PIPE & # what comes in one piece goes back in one
for n in $peers; do
    (socat -u OPEN:/tmp/out TCP:10.0.2.$((100 + n)):$((5000 + me)),retry=600,interval=2 2>/dev/null
    good=0
    for i in $(seq 10); do
        head -c $((RANDOM % 8000 + 100)) /dev/urandom >/tmp/u.$n
        socat -t 3 - UDP:10.0.2.$((100 + n)):6000 </tmp/u.$n >/tmp/v.$n 2>/dev/null
        if cmp -s /tmp/u.$n /tmp/v.$n; then good=$((good + 1))
        elif [ -s /tmp/v.$n ]; then echo "CORRUPT $n: $(wc -c </tmp/v.$n), $(cmp /tmp/u.$n /tmp/v.$n)"
        fi
    done
    echo "udp.$me.$n $good") &
done
until [ -e /tmp/got ]; do sleep 1; done
wait $(jobs -p | tail -n 7)
echo "FINISHED $(ethtool -k eth0 | grep -cE '^(tcp-segmentation-offload|tx-checksumming|generic-segmentation-offload): on')"
sleep 1000000"""
    logs = "/var/log/xen/console/guest-g[1-8].log"
    host.check(f"rm -f {logs}")
    # All are there before the first runs, for the tools' sake: they give up a script that takes 40 s.
    for n in range(1, 9):
        root = image_with_job(host, f"g{n}", job)
        host.put_config(f"g{n}", memory=160, vcpus=1 + n % 2, disk=[root],
                        extra=f"root=/dev/xvda1 console=hvc0 name=g{n} address=10.0.2.{100 + n}/24",
                        vif=[f"mac=00:16:3e:00:01:{n:02x}"])
        host.check(f"xl create -p /root/g{n}.cfg", 60)
    host.check("for n in 1 2 3 4 5 6 7 8; do xl unpause g$n; done")
    host.wait_for(f"[ $(cat {logs} | grep -c 'FINISHED [0-9]') = 8 ]", 600, pause=2)
    text = host.check(f"cat {logs} | tr -d '\\r' | grep -E '(in|out|udp)[.]|CORRUPT|FINISHED'")
    assert "CORRUPT" not in text
    have = sums(text)
    for a in range(1, 9):
        for b in range(1, 9):
            assert a == b or have[f"in.{a}.{b}"] == have[f"out.{a}"], (a, b)
    assert len(set(have[f"out.{n}"] for n in range(1, 9))) == 8
    echoes = [int(count) for count in re.findall(r"udp\.\d\.\d (\d+)$", text, re.M)]
    assert len(echoes) == 56 and sum(echoes) > 500, echoes
    # Large frames crossed the back ends: more bytes per packet than the wire's 1500.
    assert re.findall(r"FINISHED (\d)", text) == ["3"] * 8
    totals = host.check("cat /sys/class/net/vif*/statistics/rx_bytes | paste -sd+ | sed 's/^/echo $((/;"
                        "s/$/))/' | sh; cat /sys/class/net/vif*/statistics/rx_packets | paste -sd+ |"
                        " sed 's/^/echo $((/;s/$/))/' | sh").split()
    assert int(totals[0]) / int(totals[1]) > 1500, totals
    audit(host)


def serve(data):
    """A TCP service of the machine that runs the tests: takes bytes until the end, answers with
    their checksum and @data.  Returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        with listener, listener.accept()[0] as client:
            seen = hashlib.sha256()
            while block := client.recv(65536):
                seen.update(block)
            client.sendall(seen.hexdigest().encode() + b"\n" + data)
    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1]


@pytest.mark.slow
def test_ways_of_cards(host, files):
    """Out of the machine through its real card, own names, scripts, routes, a limited rate."""
    data = os.urandom(1 << 20)
    port = serve(data)
    host.check("cat >/etc/xen/scripts/vif-noted <<'END'\n#!/bin/bash\n"
               'echo "$1 $vif $XENBUS_PATH" >>/run/noted\nexec /etc/xen/scripts/vif-bridge "$@"\nEND\n'
               "chmod +x /etc/xen/scripts/vif-noted; rm -f /run/noted")
    host.create("one", memory=192, disk=[ROOT], vif=[
        "mac=00:16:3e:00:00:01, bridge=xenbr0, vifname=first, script=vif-noted",
        "mac=00:16:3e:00:00:02, script=vif-route, gatewaydev=xenbr0, ip=10.9.0.2",
        "mac=00:16:3e:00:00:03, script=vif-nat, ip=10.9.1.2"],
        extra="root=/dev/xvda1 console=hvc0 name=one address=10.0.2.101/24 address=10.9.0.2/32"
              " address=10.9.1.2/24")
    domid = host.domid("one")

    # Both ways with the world outside, sums on both sides.
    assert host.guest("one", "head -c 1M /dev/urandom >/tmp/x;"
                             f" socat -t 60 - TCP:10.0.2.2:{port} </tmp/x >/tmp/y; sha256sum </tmp/x |"
                             " cut -c1-64 | cmp -n 64 - /tmp/y && tail -c +66 /tmp/y | sha256sum") == \
        hashlib.sha256(data).hexdigest() + "  -"

    host.check("ip link show first master xenbr0")
    assert f"online vif{domid}.0" in host.check("cat /run/noted")
    assert f"10.9.0.2 dev vif{domid}.1" in host.check("ip route")
    host.guest("one", "ip route add 10.0.2.15 dev eth1 src 10.9.0.2")
    host.check("ping -c 2 -W 10 -s 3000 10.9.0.2")
    host.guest("one", "ip route del 10.0.2.15 dev eth1; ping -c 2 -W 10 -s 3000 10.9.1.129")
    host.check("xl network-detach one 1; xl network-detach one 2")

    # 512 KiB/s: two MiB need more than three seconds, whatever the load.
    host.check("xl network-attach one mac=00:16:3e:00:00:04 bridge=xenbr0 rate=512KB/s")
    rate = host.check(f"xenstore-read /local/domain/0/backend/vif/{domid}/1/rate").split(",")
    assert int(rate[0]) * 1000000 // int(rate[1]) == 512000
    host.guest("one", "for i in $(seq 60); do [ -e /sys/class/net/eth1 ] && break; sleep 0.5; done;"
                      " ip link set eth0 down; ip address add 10.0.2.104/24 dev eth1;"
                      " ip link set eth1 up; head -c 1M /tmp/y >/tmp/z; cat /tmp/z >>/tmp/z2;"
                      " cat /tmp/z >>/tmp/z2; (socat -u OPEN:/tmp/z2 TCP:10.0.2.15:7005,retry=60)"
                      " >/dev/null 2>&1 &")
    elapsed, total = host.check("socat -u TCP-LISTEN:7005 SYSTEM:'dd bs=1 count=1 2>/dev/null >/dev/null;"
                                " date +%s.%N >/run/begin; cat | wc -c >/run/count;"
                                " date +%s.%N >/run/end';"
                                " echo $(cat /run/end) $(cat /run/begin) | awk '{ print $1 - $2 }';"
                                " cat /run/count", 60).split()
    assert int(total) == (2 << 20) - 1 and float(elapsed) > 3
    host.check("xl destroy one")
    audit(host)


@pytest.fixture
def driver_host(slot):
    """A machine whose second disk is a copy of domain 0's, for a driver domain; by another name,
    since domain 0 looks for its own by that."""
    copy = os.path.join(m.LOGS, "driver.img")
    subprocess.run(["cp", "--sparse=always", os.path.join(m.BUILD, "dom0", "root.img"), copy],
                   check=True)
    subprocess.run(["tune2fs", "-L", "driver", copy], check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
    machine = slot.shared("driver", cpus=2, memory=4096, extra_disks=[copy],
                          xen="loglvl=all guest_loglvl=all")
    yield machine


@pytest.mark.slow
def test_driver_domain(driver_host):
    """A guest is the back end of another guest's disk and card; grants and events go from guest to
    guest.  When it dies, nobody else does."""
    host = driver_host
    host.create("driver", memory=384, vcpus=2, driver_domain=1, login=False,
                extra="root=/dev/xvda console=hvc0", disk=["phy:/dev/vdb,xvda,w"],
                vif=["mac=00:16:3e:00:00:0d, bridge=xenbr0"])
    host.guest("driver", "for i in $(seq 100); do pgrep -x xl >/dev/null && break; sleep 0.5; done;"
                         " pgrep -x xl; cd /var/lib/guests; cp --sparse=always two.img mine.img; sync;"
                         " head -c 8M /dev/urandom >data; sync", 120)
    # Block devices: their scripts have nothing to do at the end (see test_guests_die_in_the_middle).
    loops = host.guest("driver", "cd /var/lib/guests; for f in mine.img data; do"
                                 " losetup -f --show $PWD/$f; done").split()
    root = f"backend=driver, {disk(loops[0])}"
    before = free_pages(host)
    host.create("one", memory=192, vcpus=2, login=False,
                disk=[root, f"backend=driver, {disk(loops[1], 'xvdb')}"],
                vif=["mac=00:16:3e:00:00:01, bridge=xenbr0, backend=driver"])
    host.wait_login("one", seconds=180)
    driver, one = host.domid("driver"), host.domid("one")
    assert f"/local/domain/{driver}/backend/vbd/{one}/51712" in host.check("xl block-list one")
    assert f"/local/domain/{driver}/backend/vif/{one}/0" in host.check("xl network-list one")
    assert not host.run("ls /sys/class/net | grep -q 'vif{one}'").status == 0

    # Data, both ways, past domain 0.
    wrote = host.guest("one", "dd if=/dev/xvdb of=/tmp/x bs=1M count=4 iflag=direct 2>/dev/null;"
                              " dd if=/tmp/x of=/dev/xvdb bs=1M seek=4 oflag=direct 2>/dev/null;"
                              " sha256sum </tmp/x")
    assert host.guest("driver", "cd /var/lib/guests; for p in head tail; do $p -c 4M data |"
                                " sha256sum; done") == wrote + "\n" + wrote
    # Its card serves the driver domain. Only small frames go on to domain 0: the stock back end does
    # not copy the rest of a large one, and that page is the guest's, not the driver domain's to grant.
    address = host.guest("driver", "ip -4 -o address show xenbr0 | grep -o '[0-9.]*/' | tr -d /")
    host.guest("driver", "ping -c 3 -W 10 -s 4000 10.0.2.101")
    sent = host.guest("driver", "head -c 4M /dev/urandom >/tmp/net; (socat -u OPEN:/tmp/net"
                                " TCP-LISTEN:7006 &) >/dev/null 2>&1; sha256sum </tmp/net")
    assert host.guest("one", f"socat -u TCP:{address}:7006,retry=20 - | sha256sum") == sent
    host.check("ping -c 3 -W 10 10.0.2.101")

    # The end of the guest gives all back; then the end of a back end under its guest.
    host.check("xl destroy one", 60)
    host.wait_for("[ $(xl list | wc -l) = 3 ]", 30)
    host.guest("driver", "for i in $(seq 60); do [ -z \"$(ls /sys/bus/xen-backend/devices)\" ] && break;"
                         " sleep 1; done; [ -z \"$(ls /sys/bus/xen-backend/devices)\" ]", 120)
    host.check("sleep 1")
    assert abs(free_pages(host) - before) < 64
    host.create("one", memory=192, login=False, disk=[root],
                vif=["mac=00:16:3e:00:00:01, bridge=xenbr0, backend=driver"])
    host.wait_login("one", seconds=180)
    host.check("xl destroy driver; sleep 2; xl destroy one", 60)
    settled_pages(host)
    audit(host)
