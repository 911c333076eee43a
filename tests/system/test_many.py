"""Many guests at once: hundreds that do nothing, what the next one costs, and what each holds of the
hypervisor's memory.  Prints a table (pytest -s, or build/test-logs/many.txt)."""

import base64
import os
import subprocess

import pytest

import machine as m

pytestmark = pytest.mark.slow

GUESTS = int(os.environ.get("TEST_GUESTS", "300"))
MIB = 32
# Creates guests $1 to $2 and says how long each took, in ms, and how long `xl list` takes then.
MAKE = """\
ms() { local t=$(date +%s%N); "$@" || exit 1; took=$((($(date +%s%N) - t) / 1000000)); }
for ((i = $1; i <= $2; i++)); do
    echo "name='g$i' kernel='/root/idle' memory=MIB vcpus=1" | tr ' ' '\\n' >/root/g$i.cfg
    ms xl create -q /root/g$i.cfg >&2
    all=$((all + took))
done
ms xl list >/root/list
echo $((all / ($2 - $1 + 1))) $took
""".replace("MIB", str(MIB))


@pytest.fixture
def big(slot):
    """16 GiB, of which domain 0 has two: each guest has an xl of its own there that watches it."""
    subprocess.run(["make", "-s", "-f", "bench/Makefile", "build/bench/first.elf"], cwd=m.TOP, check=True)
    with open(os.path.join(m.TOP, "build", "bench", "first.elf"), "rb") as kernel:
        data = base64.encodebytes(kernel.read()).decode()
    host = slot.start("many", cpus=2, memory=16384, xen="loglvl=all guest_loglvl=none dom0_mem=2048M")
    host.boot(120)
    host.check(f"base64 -d >/root/idle <<'END'\n{data}END\ncat >/root/make <<'END'\n{MAKE}END")
    yield host
    slot.stop()


def rows(host):
    """Guests by name: domid, MiB, state, seconds."""
    found = {}
    for line in host.check("xl list", 120).splitlines()[2:]:
        name, domid, mib, _, state, seconds = line.split()
        found[name] = int(domid), int(mib), state, float(seconds)
    return found


def test_many(big):
    big.check("bash /root/make 0 0; xl destroy g0; while xl domid g0; do sleep 0.5; done", 60)
    before = big.free_pages()
    table = ["guests  ms per creation  ms per xl list"]
    made = 0
    for upto in sorted({1, 10, *range(50, GUESTS, 50), GUESTS}):
        # In pieces, so that none takes longer than one that hangs.
        create, listing = big.check(f"bash /root/make {made + 1} {upto}", 60 + 8 * (upto - made)).split()
        table.append(f"{upto:6}  {create:>15}  {listing:>14}")
        made = upto
    guests = rows(big)
    assert len(guests) == GUESTS
    assert len({domid for domid, *_ in guests.values()}) == GUESTS
    for name, (_, mib, state, seconds) in guests.items():
        assert mib == MIB and state == "-b----" and seconds < 2, (name, mib, state, seconds)
    held = (before - big.free_pages()) * 4 / GUESTS - MIB * 1024
    table.append(f"{held:.1f} KiB per guest beyond its {MIB} MiB")
    big.check("for i in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $i; done", 60 + 4 * GUESTS)
    big.wait_for("[ $(xl list | wc -l) = 2 ]", 60)
    big.check("sleep 1") # a grace period, after which freed memory is counted
    after = big.free_pages()
    table.append(f"{before - after} pages fewer free when all are gone")
    text = "\n".join(table) + "\n"
    print("\n" + text)
    with open(os.path.join(m.LOGS, "many.txt"), "w", encoding="ascii") as file:
        file.write(text)
    assert before - after <= 64, text
