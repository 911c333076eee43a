"""The para-virtual text console under load, both ways at once, through several guests'
consoles and the stock daemon behind them, and not one is lost or changed."""

import re

import pytest

from machine import disk

IMAGES = "/var/lib/guests"
GUESTS = ("c1", "c2", "c3")
SIZE = 2 << 20
# The stock front end takes 16 bytes at a time and the daemon counts its events: typing is slow.
TYPED = 512 << 10

# Has the console for itself: no login there, and a terminal that changes nothing.
JOB = f"""
stty raw -echo
head -c {SIZE} /dev/urandom >/tmp/out
echo READY
read -r go
cat /tmp/out &
head -c {TYPED} | sha256sum >/tmp/in.sum
wait
sleep 1
echo "END $(sha256sum </tmp/out) $(cat /tmp/in.sum)"
sleep 1000000"""


@pytest.mark.slow
def test_both_ways_at_once(host):
    # What is typed is text: the console of a stock kernel obeys ^O and a letter (SysRq).
    for name in GUESTS:
        host.run(f"xl destroy {name}", 60)
        host.check(f"set -e; cp --sparse=always {IMAGES}/one.img {IMAGES}/{name}.img\n"
                   f"mount -o loop,offset=1048576 {IMAGES}/{name}.img /mnt\n"
                   f"cat >/mnt/root/job <<'END'\nexport PATH=/usr/sbin:/usr/bin\n{JOB}\nEND\n"
                   "sed -i '/^hvc0/d' /mnt/etc/inittab\n"
                   "echo '::once:/bin/bash -c \"bash /root/job </dev/hvc0 >/dev/hvc0 2>&1\"'"
                   " >>/mnt/etc/inittab; umount /mnt", 60)
        host.create(name, login=False, memory=128, vcpus=2, disk=[disk(name)])
        # What xl console does, without a person.
        host.check(f"tty=$(xenstore-read /local/domain/$(xl domid {name})/console/tty); ln -sfn $tty"
                   f" /run/{name}.tty; (cat $tty >/run/{name}.got &) >/dev/null 2>&1;"
                   f" base64 /dev/urandom | head -c {TYPED} >/run/{name}.give")
    for name in GUESTS:
        host.wait_for(f"grep -aq READY /run/{name}.got", 90)
    host.check("; ".join(f"((echo go; cat /run/{name}.give) >/run/{name}.tty &) >/dev/null 2>&1"
                         for name in GUESTS))
    for name in GUESTS:
        host.wait_for(f"tail -c 200 /run/{name}.got | grep -aqE 'END [0-9a-f]{{64}}.*[0-9a-f]{{64}}'", 200)
        sent, came = re.findall(r"\b[0-9a-f]{64}\b", host.check(f"tail -c 200 /run/{name}.got | grep -a END"))
        gave = host.check(f"sha256sum </run/{name}.give").split()[0]
        assert came == gave, name
        # What the guest sent, at the reader and in the daemon's own log.
        for file in (f"/run/{name}.got", f"/var/log/xen/console/guest-{name}.log"):
            at = int(host.check(f"grep -abo READY {file} | head -n 1").split(":")[0]) + len("READY\n")
            assert host.check(f"tail -c +{at + 1} {file} | head -c {SIZE} | sha256sum").split()[0] == sent, \
                (name, file)
    host.check("".join(f"xl destroy {name}; rm -f /run/{name}.* {IMAGES}/{name}.img;" for name in GUESTS), 60)
