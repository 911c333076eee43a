"""A PVH guest (type="pvh") with the stock Debian kernel, made by stock xl: what a PV guest can do, by
nested paging. One boot for many checks."""

import re


def free_memory(host):
    return int(host.check("xl info | awk '/^free_memory/ { print $3 }'"))


def test_pvh_guest(host):
    before = free_memory(host)
    host.check("truncate -s 32M /var/lib/guests/pvh-blank.img")
    host.create("pvh", type="pvh", memory=256, vcpus=2, seconds=120,
                disk=["format=raw, vdev=xvda, access=rw, target=/var/lib/guests/one.img",
                      "format=raw, vdev=xvdb, access=rw, target=/var/lib/guests/pvh-blank.img"],
                vif=["mac=00:16:3e:12:34:03, bridge=xenbr0"])

    def guest(command):
        return host.guest("pvh", command)

    assert guest("cat /sys/hypervisor/guest_type") == "PVH"
    assert guest("nproc") == "2"
    guest("dd if=/bin/bash of=/dev/xvdb bs=4k conv=fsync 2>/dev/null &&"
          " head -c $(stat -c %s /bin/bash) /dev/xvdb | cmp - /bin/bash")
    assert guest("cat /sys/class/net/eth0/address") == "00:16:3e:12:34:03"
    guest("ping -c 2 -W 5 10.0.2.15")
    guest("sha256sum /bin/bash >/root/bash.sum; for i in 1 2 3 4; do (for j in 1 2 3; do"
          " sha256sum --status -c /root/bash.sum || touch /root/wrong; done) & done; wait;"
          " [ ! -e /root/wrong ]")

    log = guest("dmesg")
    assert not re.search(r"\] (BUG|Oops|general protection)", log), log

    host.check("xl shutdown -w pvh", 90)
    host.wait_for("! xl domid pvh", 30)
    assert free_memory(host) == before
