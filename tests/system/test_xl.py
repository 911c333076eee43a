"""The commands of stock xl, and their values held against what the machine and the guests are."""

import re
import time

import pytest

from machine import disk


def info(host):
    return dict(re.findall(r"^(\w+)\s*: ?(.*)$", host.check("xl info"), re.M))


def row(host, name):
    """(id, MiB, vCPUs, state) of one domain in `xl list`."""
    for line in host.check("xl list").splitlines()[1:]:
        field = line.split()
        if field[0] == name:
            return int(field[1]), int(field[2]), int(field[3]), field[4]
    return None


@pytest.fixture
def one(host):
    """A guest "one" that is at its login."""
    if not row(host, "one"):
        host.create("one", memory=192, maxmem=256, vcpus=2, maxvcpus=2, disk=[disk("one")],
                    vif=["mac=00:16:3e:00:00:01, bridge=xenbr0"])
    return host


@pytest.fixture
def host(slot, spare_disk):
    """As the shared one, but guests stay between the tests of this file."""
    return slot.shared("host", cpus=2, memory=4096, extra_disks=[spare_disk],
                       xen="loglvl=all guest_loglvl=all trilby-no-such-option=7")


def test_info(host):
    have = info(host)
    assert have["host"] == "dom0"
    assert have["nr_cpus"] == "2" and have["max_cpu_id"] == "1" and have["nr_nodes"] == "1"
    assert 4096 - 64 <= int(have["total_memory"]) <= 4096
    assert 4096 - 1024 - 256 < int(have["free_memory"]) < 4096 - 1024
    assert have["xen_major"] == "4" and have["xen_minor"] == "17"
    assert "xen-3.0-x86_64" in have["xen_caps"].split()
    assert have["xen_pagesize"] == "4096"
    assert have["xen_scheduler"] in ("credit2", "credit")
    assert "pv" in have["virt_caps"].split()
    assert "dom0_mem=1024M" in have["xen_commandline"]
    # The kernel measured the clock by itself.
    measured = float(re.search(r"Detected ([\d.]+) MHz", host.check("dmesg")).group(1))
    assert abs(float(have["cpu_mhz"]) - measured) / measured < 0.02


def test_uptime_counts(host):
    def seconds():
        found = re.search(r"Domain-0\s+0\s+(?:(\d+) days?,\s+)?(\d+):(\d\d):(\d\d)",
                          host.check("xl uptime"))
        assert found
        days, hours, minutes, rest = (int(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    begin, clock = seconds(), time.time()
    host.check("sleep 3")
    assert abs((seconds() - begin) - (time.time() - clock)) <= 2


def test_dmesg(host):
    log = host.check("xl dmesg")
    assert "dom0_mem=1024M" in log
    assert re.search(r"(?i)dom(ain )?0", log)


def test_unknown_option_is_named(host):
    if "trilby" not in host.check("xl dmesg").lower().replace("trilby-no-such-option", ""):
        pytest.skip("not Trilby: stock Xen does not name unknown options")
    lines = [line for line in host.check("xl dmesg").splitlines() if "trilby-no-such-option" in line]
    assert any("dom0_mem" not in line for line in lines), lines


def test_list_and_domain_zero(host):
    number, memory, vcpus, state = row(host, "Domain-0")
    assert (number, memory, vcpus) == (0, 1024, 2)
    assert "r" in state


def test_create_and_list(one):
    number, memory, vcpus, state = row(one, "one")
    assert number > 0 and memory == 192 and vcpus == 2
    assert state[2] == "-" and set(state) <= set("rb-")
    assert one.check(f"xl domname {number}") == "one"


def test_vcpu_list(one):
    lines = [line.split() for line in one.check("xl vcpu-list one").splitlines()[1:]]
    assert [line[2] for line in lines] == ["0", "1"]
    assert all(line[3] in ("0", "1", "-") for line in lines)
    assert all(line[-1] == "all" for line in lines), "affinity"


def test_cpu_time_grows_only_when_used(one):
    def used():
        return float(one.check("xl list one | awk 'NR == 2 { print $6 }'"))
    begin = used()
    one.check("sleep 4")
    idle = used() - begin
    one.guest("one", "timeout 4 sh -c 'while :; do :; done'; true")
    busy = used() - begin - idle
    assert idle < 1.5 and 2.5 < busy < 8, (idle, busy)


def test_console_log_and_login(one):
    assert "Linux version" in one.check("cat /var/log/xen/console/guest-one.log")
    assert one.guest("one", "tty") == "/dev/hvc0"


def test_pause_stops_a_guest(one):
    one.guest("one", "(while :; do date +%s >/root/beat.new; mv /root/beat.new /root/beat; sleep 0.2; done) >/dev/null 2>&1 &")
    one.check("xl pause one")
    assert "p" in row(one, "one")[3]
    used = one.check("xl list one | awk 'NR == 2 { print $6 }'")
    one.check("sleep 4")
    assert one.check("xl list one | awk 'NR == 2 { print $6 }'") == used
    one.check("xl unpause one")
    assert "p" not in row(one, "one")[3]
    one.guest("one", "a=$(cat /root/beat); sleep 2; [ $(cat /root/beat) -gt $a ]")
    one.guest("one", "kill %1 2>/dev/null; pkill -f beat; true")


def test_mem_set(one):
    def inside():
        return int(one.guest("one", "awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024
    full, free = inside(), int(info(one)["free_memory"])
    one.check("xl mem-set one 144")
    one.wait_for("[ $(xl list one | awk 'NR == 2 { print $3 }') -le 145 ]", 30)
    one.wait_for(f"[ $(xl info free_memory) -ge {free + 46} ]", 30)
    assert 46 <= full - inside() <= 50
    one.check("xl mem-set one 224")
    one.wait_for("[ $(xl list one | awk 'NR == 2 { print $3 }') -ge 223 ]", 30)
    assert 30 <= inside() - full <= 34
    one.check("xl mem-set one 192")


def test_vcpu_set(one):
    one.check("xl vcpu-set one 1")
    one.wait_for("[ $(xl vcpu-list one | grep -c -- '--p') = 1 ]", 20)
    assert one.guest("one", "nproc") == "1"
    one.check("xl vcpu-set one 2")
    one.guest("one", "sleep 1; echo 1 >/sys/devices/system/cpu/cpu1/online 2>/dev/null; true")
    assert one.guest("one", "nproc") == "2"


def test_vcpu_pin(one):
    one.check("xl vcpu-pin one 1 1")
    lines = [line.split() for line in one.check("xl vcpu-list one").splitlines()[1:]]
    assert lines[1][-3] == "1"
    one.guest("one", "for i in 1 2 3; do sha256sum /bin/bash; done")
    lines = [line.split() for line in one.check("xl vcpu-list one").splitlines()[1:]]
    assert lines[1][3] in ("1", "-")
    one.check("xl vcpu-pin one all all")


def test_rename(one):
    one.check("xl rename one another")
    assert row(one, "another") and not row(one, "one")
    one.check("xl rename another one")


def test_reboot(one):
    before = one.domid("one")
    boots = int(one.guest("one", "sync; cat /var/lib/boots"))
    one.check("xl reboot one")
    one.wait_login("one", 2)
    assert one.domid("one") != before
    assert int(one.guest("one", "cat /var/lib/boots")) == boots + 1


def test_shutdown(one):
    one.check("xl shutdown -w one", 90)
    one.wait_for("! xl domid one", 30)
    assert row(one, "one") is None


def test_destroy_gives_everything_back(host):
    """Twice the same guest: what is free afterwards is what was free before."""
    def free():
        return int(info(host)["free_memory"])

    def life():
        host.create("one", memory=192, disk=[disk("one")], vif=["mac=00:16:3e:00:00:01"])
        taken = free()
        host.check("xl destroy one")
        host.wait_for("! xl domid one", 30)
        return taken
    host.wait_for("[ $(xl list | wc -l) = 2 ]", 30)
    life()
    before = free()
    taken = life()
    assert 190 <= before - taken <= 200
    assert abs(free() - before) <= 1
    # No backend is left behind, either.
    host.wait_for("[ -z \"$(losetup -a)\" ]", 30)
    assert "vif" not in host.check("ls /sys/class/net")


def test_create_refuses_nonsense(host):
    """The tools say no, and neither a domain nor memory stays behind."""
    before = int(info(host)["free_memory"])
    for line in ('memory = 100000', 'kernel = "/nowhere"', 'kernel = "/etc/passwd"',
                 'vif = ["bridge=nobridge"]'):
        host.check("cat >/root/bad.cfg <<'END'\n"
                   'name = "bad"\nkernel = "/boot/guest/vmlinuz-amd64"\n'
                   'memory = 128\nvcpus = 1\n' + line + "\nEND")
        result = host.run("xl create /root/bad.cfg", 60)
        assert result.status != 0, line
        assert host.run("xl domid bad").status != 0, line
    host.wait_for(f"[ $(xl info free_memory) -ge {before - 1} ]", 30)


def test_unknown_domain(host):
    for command in ("destroy", "pause", "unpause", "shutdown", "vcpu-list", "console"):
        assert host.run(f"xl {command} no-such-domain").status != 0, command
    assert host.run("xl list 12345").status != 0
