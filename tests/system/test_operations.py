"""What an operator does to a running guest: each command's effect, seen in the guest or by another
tool, and the refusals and their words, as on Xen 4.17."""

import json
import re
import struct

import pytest

from machine import disk


@pytest.fixture
def host(slot, spare_disk):
    """The machine of test_xl.py; the guest stays from test to test."""
    return slot.shared("host", cpus=2, memory=4096, extra_disks=[spare_disk],
                       xen="loglvl=all guest_loglvl=all trilby-no-such-option=7")


@pytest.fixture
def one(host):
    if host.run("xl domid one").status != 0:
        host.create("one", memory=192, maxmem=256, vcpus=2, maxvcpus=4, disk=[disk("one")],
                    vif=["mac=00:16:3e:00:00:01, bridge=xenbr0"])
    return host


def refused(host, command, words):
    """@command fails, and what it says contains @words."""
    result = host.run(command)
    assert words in result.output, result
    return result


def affinity(host):
    """{vCPU: (hard, soft)} of guest one."""
    rows = [re.search(r"^one +\d+ +(\d+) .* ([\w,-]+) / ([\w,-]+)$", line)
            for line in host.check("xl vcpu-list one").splitlines()]
    return {int(row[1]): (row[2], row[3]) for row in rows if row}


def test_configuration_of_a_guest(one):
    described = json.loads(one.check("xl list -l one"))[0]
    assert described["config"]["c_info"]["name"] == "one"
    assert described["config"]["b_info"]["target_memkb"] == 192 * 1024
    uuid = described["config"]["c_info"]["uuid"]
    assert uuid in one.check("xl list -v one")
    assert one.guest("one", "cat /sys/hypervisor/uuid") == uuid
    assert one.check(f"xl domname {one.domid('one')}").strip() == "one"
    refused(one, "xl domname 7777", "Can't get domain name of domain id '7777'")
    refused(one, "xl rename one Domain-0", 'name "Domain-0" already exists')


def test_topology(host):
    text = host.check("xl info -n")
    assert re.search(r"^  0: +0 +0 +0$", text, re.M)
    assert "failed" not in text


def test_affinity(one):
    one.check("xl vcpu-pin one 0 1")
    one.check("xl vcpu-pin one 1 - 0")
    have = affinity(one)
    assert have[0] == ("1", "all") and have[1] == ("all", "0")
    one.guest("one", "for i in 1 2 3; do sha256sum /bin/bash; done >/dev/null")
    assert re.search(r"^one +\d+ +0 +[1-] ", one.check("xl vcpu-list one"), re.M)
    refused(one, "xl vcpu-pin one 0 7", "Invalid argument")
    refused(one, "xl vcpu-pin one 9 0", "Invalid argument")
    assert affinity(one) == have
    one.check("xl vcpu-pin one all all all")
    assert set(affinity(one).values()) == {("all", "all")}


def test_scheduler_parameters(one):
    def weight_and_cap():
        return one.check("xl sched-credit2 -d one").split()[-2:]
    one.check("xl sched-credit2 -d one -w 512 -c 50")
    assert weight_and_cap() == ["512", "50"]
    refused(one, "xl sched-credit2 -d one -w 70000", "out of range")
    refused(one, "xl sched-credit2 -d one -c 100000", "out of range")
    refused(one, "xl sched-credit -d one -w 300", "Invalid argument")
    assert weight_and_cap() == ["512", "50"]
    one.check("xl sched-credit2 -d one -w 256 -c 0")
    one.check("xl sched-credit2 -s -r 2000")
    assert "ratelimit=2000us" in one.check("xl sched-credit2 -s")
    refused(one, "xl sched-credit2 -s -r 600000", "Ratelimit out of range")
    assert "ratelimit=2000us" in one.check("xl sched-credit2 -s")
    one.check("xl sched-credit2 -s -r 0")


def test_the_one_pool(one):
    assert re.search(r"^Pool-0 +2 +credit2 +y +2$", one.check("xl cpupool-list"), re.M)
    assert re.search(r"^Pool-0 +0,1$", one.check("xl cpupool-list -c"), re.M)
    one.check("xl cpupool-rename Pool-0 Main")
    assert "Main" in one.check("xl cpupool-list")
    one.check("xl cpupool-rename Main Pool-0")
    one.check("xl cpupool-migrate one Pool-0")
    refused(one, "xl cpupool-destroy Pool-0", "Can't destroy cpupool")
    refused(one, "xl cpupool-cpu-remove Pool-0 1", "Operation not supported")
    refused(one, "xl cpupool-create name=\\\"more\\\" sched=\\\"credit2\\\"", "Could not create")
    assert re.search(r"^Pool-0 +2 +credit2 +y +2$", one.check("xl cpupool-list"), re.M)


def test_memory_refusals(one):
    refused(one, "xl mem-set one 300", "must be less than or equal to memory_static_max")
    refused(one, "xl mem-max one 100", "must be greater than or or equal to memory_dynamic_max")
    refused(one, "xl mem-set one abc", "invalid memory size")
    one.check("xl mem-max one 300")
    assert one.check("xenstore-read /local/domain/$(xl domid one)/memory/static-max").strip() \
        == str(300 * 1024)
    one.check("xl mem-max one 256")


def test_vcpu_refusals(one):
    refused(one, "xl vcpu-set one 9", "overcommmitting")
    refused(one, "xl vcpu-set one 0", "Requested 0 VCPUs")
    assert one.guest("one", "nproc") == "2"


def test_keys_and_triggers(one):
    one.check("xl sysrq one h")
    one.wait_for("tail -n 40 /var/log/xen/console/guest-one.log | grep -q 'sysrq: HELP'", 20)
    one.check("xl trigger one nmi")
    one.wait_for("tail -n 40 /var/log/xen/console/guest-one.log | grep -qi 'NMI received'", 20)
    refused(one, "xl trigger one power", "Invalid argument")
    one.check("xl dmesg -c >/dev/null; xl debug-keys q")
    assert re.search(rf"d{one.domid('one')}: refs \d+", one.check("xl dmesg"))


def test_config_update(one):
    """The new configuration is what the tools keep for the guest from then on."""
    one.check("sed 's/^maxmem.*/maxmem = 250/' /root/one.cfg >/root/other.cfg")
    one.check("xl config-update one /root/other.cfg")
    assert "maxmem = 250" in one.check("cat /var/lib/xen/userdata-d.$(xl domid one).*.xl")
    refused(one, "xl config-update one /nowhere", "Failed to read config file")
    refused(one, "xl config-update nobody /root/other.cfg", "invalid domain identifier")


def test_tools_that_look(one):
    assert re.search(r"^ +one [-a-z]+ +\d+ ", one.check("xentop -b -i 1"), re.M)
    assert re.search(r"^one +\d+ +\d+:\d\d:\d\d$", one.check("xl uptime"), re.M)
    assert re.search(r"^one .* 0$", one.check("xl claims"), re.M)
    refused(one, "xen-hptool cpu-offline 1", "Operation not supported")
    assert "nr_cpus                : 2" in one.check("xl info")


def notes_and_sections(host, path):
    """Names of the sections of an ELF core in domain 0, and the xc_core header's numbers."""
    def read(offset, size):
        text = host.check(f"tail -c +{offset + 1} {path} | head -c {size} | od -An -v -tx1", 60)
        return bytes.fromhex("".join(text.split()))
    head = read(0, 64)
    assert head[:4] == b"\x7fELF"
    offset, = struct.unpack_from("<Q", head, 40)
    size, count, names = struct.unpack_from("<HHH", head, 58)
    table = [struct.unpack("<IIQQQQIIQQ", read(offset + i * size, 64)) for i in range(count)]
    strings = read(table[names][4], table[names][5])
    return {strings[row[0]:].split(b"\0")[0].decode(): row for row in table}


@pytest.mark.slow
def test_dump_core(one):
    one.check("xl dump-core one /root/core", 120)
    sections = notes_and_sections(one, "/root/core")
    assert {".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_p2m", ".xen_pages"} \
        <= set(sections)
    # As many pages as entries of the table that says which they are.
    pages, p2m = sections[".xen_pages"][5], sections[".xen_p2m"][5]
    assert pages % 4096 == 0 and p2m // 16 == pages // 4096
    assert 191 * 256 <= pages // 4096 <= 257 * 256
    assert one.guest("one", "echo alive") == "alive"
    one.check("rm /root/core")


CRASH = "sync; echo c >/proc/sysrq-trigger"


def crash(host, name, action):
    """A guest made for it crashes by itself."""
    host.create(name, memory=128, disk=[disk("two")], on_crash=action)
    before = host.domid(name)
    host.run(f"/usr/lib/trilby/guest-run {name} '{CRASH}' 10") # it cannot answer any more
    return before


@pytest.mark.slow
@pytest.mark.parametrize("action", ["destroy", "preserve", "restart", "rename-restart",
                                    "coredump-destroy", "coredump-restart"])
def test_on_crash(host, action):
    host.check("rm -rf /var/lib/xen/dump/*; mkdir -p /var/lib/xen/dump")
    before = crash(host, "bad", action)
    if "restart" in action:
        host.wait_for(f"[ \"$(xl domid bad)\" != {before} ] && xl domid bad", 90)
        host.wait_login("bad", 2)
        assert (host.run(f"xl domname {before}").status == 0) == (action == "rename-restart")
    elif action == "preserve":
        host.wait_for("xl list bad | grep -q -- '---.c-'", 60)
        assert host.domid("bad") == before
    else:
        host.wait_for("! xl domid bad", 90)
    assert ("coredump" in action) == (host.check("ls /var/lib/xen/dump").strip() != "")
    host.check("rm -rf /var/lib/xen/dump/*; for d in $(xl list | awk '/^bad/ { print $2 }'); do"
               " xl destroy $d; done", 60)


def odd(host, **settings):
    host.create("odd", memory=128, disk=[disk("two")], **settings)


@pytest.mark.slow
def test_on_poweroff_and_on_reboot(host):
    """The unusual choices: a guest that is kept when it powers off, one that ends when it reboots."""
    odd(host, on_poweroff="preserve", on_reboot="destroy")
    host.check("xl shutdown -w odd", 90)
    host.wait_for("xl list odd | grep -q -- '---s'", 30)
    host.check("xl destroy odd")
    odd(host, on_poweroff="preserve", on_reboot="destroy")
    host.check("xl reboot odd", 90)
    host.wait_for("! xl domid odd", 60)


@pytest.mark.slow
@pytest.mark.parametrize("event, action", [
    ("poweroff", "restart"), ("poweroff", "rename-restart"), ("poweroff", "coredump-destroy"),
    ("reboot", "preserve"), ("reboot", "rename-restart"), ("reboot", "coredump-restart")])
def test_actions(host, event, action):
    """Every action at the end of a guest that others above do not show."""
    host.check("rm -rf /var/lib/xen/dump/*; mkdir -p /var/lib/xen/dump")
    odd(host, **{f"on_{event}": action})
    before = host.domid("odd")
    host.check(f"xl {'shutdown' if event == 'poweroff' else 'reboot'} odd")
    if "restart" in action:
        host.wait_for(f"[ \"$(xl domid odd)\" != {before} ] && xl domid odd", 90)
        host.wait_login("odd", 2)
        assert (host.run(f"xl domname {before}").status == 0) == (action == "rename-restart")
    elif action == "preserve":
        host.wait_for("xl list odd | grep -q -- '---s'", 60)
        assert host.domid("odd") == before
    else:
        host.wait_for("! xl domid odd", 90)
    assert ("coredump" in action) == (host.check("ls /var/lib/xen/dump").strip() != "")
    host.check("rm -rf /var/lib/xen/dump/*; for d in $(xl list | awk '/^odd/ { print $2 }'); do"
               " xl destroy $d; done", 60)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["preserve", "restart"])
def test_watchdog(host, action):
    """A guest that feeds its watchdog lives; when it stops feeding, it ends as configured."""
    odd(host, on_watchdog=action)
    before = host.domid("odd")
    host.guest("odd", "busybox watchdog -T 10 -t 1 /dev/watchdog; sleep 25; pidof busybox", 90)
    assert host.domid("odd") == before
    host.check("! xl list odd | grep -q -- '---s'")
    host.guest("odd", "kill -STOP $(pidof busybox)")
    if action == "preserve":
        host.wait_for("xl list odd | grep -q -- '---s'", 60)
        # The reason code, as xen/sched.h numbers it.
        assert host.check("xl list -v odd | awk 'NR == 2 { print $8 }'") == "4"
    else:
        host.wait_for(f"[ \"$(xl domid odd)\" != {before} ] && xl domid odd", 60)
        host.wait_login("odd", 2)
    host.check("xl destroy odd")
