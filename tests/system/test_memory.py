"""Memory as something that is given, taken back and promised: sizes of running guests by stock xl, and
creations at once for which there is not enough."""

import json
import random
import re

import pytest

import machine as m

MAP = "/sys/devices/system/xen_memory/xen_memory0/info/current_kb"


def settled_pages(host):
    """free_pages(), once what a first guest makes the tables of domain 0 grow by is there."""
    host.create("first", disk=[m.disk("one")], login=False)
    host.check("xl destroy first", 60)
    host.wait_for("! xl domid first")
    return host.free_pages()


def figures(host, name):
    """MiB: in xl list, promised in xenstore, as the guest's balloon says, KiB of xl list -l."""
    domid = host.domid(name)
    listed = int(host.check(f"xl list {name} | awk 'NR == 2 {{ print $3 }}'"))
    target = int(host.check(f"xenstore-read /local/domain/{domid}/memory/target"))
    inside = int(host.guest(name, f"cat {MAP}"))
    return listed, target // 1024, inside // 1024


def settles(host, name, mib):
    """Waits until all agree on a size, the pages of rings and the like aside."""
    host.wait_for(f"[ $(xl list {name} | awk 'NR == 2 {{ print $3 }}') -le {mib + 1} ]"
                  f" && [ $(xl list {name} | awk 'NR == 2 {{ print $3 }}') -ge {mib - 1} ]", 60)
    listed, target, inside = figures(host, name)
    assert target == mib
    assert abs(listed - mib) <= 1 and abs(inside - mib) <= 1, (listed, target, inside)


def test_sizes(host):
    """Down and up while it runs; never beyond the maximum; the host's books follow to the page."""
    before = settled_pages(host)
    host.create("one", memory=128, maxmem=256, disk=[m.disk("one")])
    settles(host, "one", 128)
    with_128 = host.free_pages()
    for mib in (96, 256, 160, 128):
        host.check(f"xl mem-set one {mib}")
        settles(host, "one", mib)
        assert abs(with_128 - host.free_pages() - (mib - 128) * 256) <= 8
    # Beyond the maximum: refused, and nothing changes.
    refused = host.run("xl mem-set one 300")
    assert refused.status != 0 and "memory_dynamic_max must be less than" in refused.output
    settles(host, "one", 128)
    # A lower maximum counts from now on.
    host.check("xl mem-max one 192")
    assert host.run("xl mem-set one 200").status != 0
    host.check("xl mem-set one 192")
    settles(host, "one", 192)
    config = json.loads(host.check("xl list -l one"))[0]["config"]["b_info"]
    assert config["target_memkb"] == 192 << 10, config
    # Less than its kernel can live with: the balloon stops at its own floor, and the guest lives.
    host.check("xl mem-set one 1; sleep 3")
    left = int(host.check("xl list one | awk 'NR == 2 { print $3 }'"))
    assert 4 < left < 192
    host.check("xl mem-set one 128")
    settles(host, "one", 128)
    host.check("xl destroy one", 60)
    host.wait_for("! xl domid one")
    assert host.free_pages() == before


def test_two_creations_and_memory_for_one(host):
    """One of them fails whole and says why, before it has built anything; the other runs."""
    before = settled_pages(host)
    mib = before // 256 * 6 // 10
    for name in ("one", "two"):
        host.put_config(name, memory=mib, disk=[m.disk(name)])
    said = host.run("for n in one two; do (xl create /root/$n.cfg >/root/$n.out 2>&1;"
                    " echo status $? >>/root/$n.out) & done; wait;"
                    " tail -n 20 /root/one.out /root/two.out", 180).output
    failed = [status for status in re.findall(r"status (\d+)", said) if status != "0"]
    assert len(failed) == 1, said
    assert re.search("[Nn]ot enough (free )?memory|failed to free memory|Cannot allocate memory|"
                     "failed to claim", said), said
    names = [name for name in ("one", "two") if host.run(f"xl domid {name}").status == 0]
    assert len(names) == 1
    assert host.check("xl claims | awk 'NR > 1 { print $NF }' | sort -u") == "0"
    host.wait_login(names[0])
    settles(host, names[0], mib)
    host.check(f"xl destroy {names[0]}", 60)
    host.wait_for(f"! xl domid {names[0]}")
    assert host.free_pages() == before


@pytest.mark.slow
def test_a_hundred_sizes(host):
    """Three guests at once, each time any sizes; at the end every page is back."""
    before = settled_pages(host)
    names = ("one", "two", "three")
    host.check("cp --sparse=always /var/lib/guests/one.img /var/lib/guests/three.img")
    for name in names:
        host.create(name, memory=128, maxmem=256, disk=[m.disk(name)])
    dice = random.Random(7)
    sizes = {}
    for _ in range(34):
        for name in names:
            sizes[name] = dice.randrange(96, 257) # the balloon's own floor is 87 here
        host.check("; ".join(f"xl mem-set {name} {size} & " for name, size in sizes.items()).replace(
            "& ;", "&") + " wait")
        if dice.randrange(4) == 0: # else the next comes in the middle of this one
            for name in names:
                settles(host, name, sizes[name])
    for name in names:
        settles(host, name, sizes[name])
        assert host.guest(name, "dmesg | grep -ci 'oom\\|out of memory' || true") == "0"
    for name in names:
        host.check(f"xl destroy {name}", 60)
        host.wait_for(f"! xl domid {name}")
    host.check("rm /var/lib/guests/three.img")
    assert host.free_pages() == before


@pytest.mark.slow
def test_on_demand(host):
    """A PVH guest finds numbers for all that it may grow to when it starts, and pages behind these
    as it touches them; then its balloon gives back what it may not have yet."""
    before = settled_pages(host)
    host.create("one", type="pvh", memory=128, maxmem=256, vcpus=2, disk=[m.disk("one")],
                seconds=120)
    settles(host, "one", 128)
    assert "Initial ballooning down finished" in host.guest("one", "dmesg")
    with_128 = host.free_pages()
    for mib in (256, 100, 192, 128):
        host.check(f"xl mem-set one {mib}")
        settles(host, "one", mib)
        # Each 2 MiB of which a part goes has a page table then.
        assert abs(with_128 - host.free_pages() - (mib - 128) * 256) <= 128
    # What it may have, it has: none of it is wrong, and nobody ran out of memory.
    host.guest("one", "for i in 1 2 3; do head -c 40M /dev/zero | tail -c 39M | wc -c; done;"
                      " sha256sum /bin/bash >/tmp/sum && sha256sum -c --quiet /tmp/sum")
    assert host.run("xl mem-set one 300").status != 0
    host.check("xl mem-max one 160")
    assert host.run("xl mem-set one 200").status != 0
    host.check("xl mem-set one 160")
    settles(host, "one", 160)
    counts = re.findall(r"d(\d+): (\d+) frames to be populated, (\d+) pages", host.check("xl dmesg"))
    domid, entries, pages = counts[-1]
    assert int(domid) == host.domid("one") and entries == pages
    host.check("xl destroy one", 60)
    host.wait_for("! xl domid one")
    assert host.free_pages() == before
