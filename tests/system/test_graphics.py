"""The screen and the keyboard of a PV guest (vfb): stock QEMU in domain 0 shows what the guest's
kernel draws.  Pictures and keys go through QEMU's own control socket.  Text in a picture is read
with the glyphs that the guest itself drew for a known row, so no font is needed here."""

import base64
import gzip
import json

import pytest

DISK = "format=raw, vdev=xvda, access=rw, target=/var/lib/guests/one.img"
ASCII = "".join(map(chr, range(33, 127)))


def qmp(host, domid, *commands):
    """Gives QEMU commands, one after the other; fails when it refuses one."""
    lines = "".join(json.dumps(command) + "\n"
                    for command in ({"execute": "qmp_capabilities"}, *commands))
    text = base64.b64encode(lines.encode()).decode()
    answer = host.check(f"(echo {text} | base64 -d; sleep 3) |"
                        f" socat -t 5 - UNIX-CONNECT:/run/xen/qmp-libxenstat-{domid}", 60)
    assert '"error"' not in answer, answer
    assert answer.count('"return"') == len(commands) + 1, answer


def picture(host, domid):
    """(width, height, rows of a tuple per cell of 8x16 points) of the guest's screen."""
    qmp(host, domid, {"execute": "screendump", "arguments": {"filename": "/tmp/screen.ppm"}})
    data = gzip.decompress(base64.b64decode(host.check("busybox gzip -c </tmp/screen.ppm | base64 -w0", 60)))
    magic, width, height, _, points = data.split(maxsplit=4) if data[:2] == b"P6" else (b"",) * 5
    assert magic == b"P6"
    width, height = int(width), int(height)
    points = data[-width * height * 3:]
    lit = [max(points[i:i + 3]) > 64 for i in range(0, len(points), 3)]
    rows = [[tuple(tuple(lit[(16 * y + line) * width + 8 * x:][:8]) for line in range(16))
             for x in range(width // 8)] for y in range(height // 16)]
    return width, height, rows


def read(rows, glyphs):
    return "\n".join("".join(glyphs.get(cell, "?") for cell in row).rstrip() for row in rows)


def keys(host, domid, text):
    names = {" ": "spc", "\n": "ret", "/": "slash"}
    qmp(host, domid, *({"execute": "send-key", "arguments": {
        "keys": [{"type": "qcode", "data": names.get(key, key)}], "hold-time": 20}}
        for key in text))


@pytest.mark.slow
def test_screen_and_keyboard(host):
    host.run("xl destroy one; while xl domid one; do sleep 0.5; done", 60) # another file's guest
    host.create("one", memory=192, disk=[DISK], vfb=["vnc=1,vnclisten=127.0.0.1,vncunused=1"],
                extra="root=/dev/xvda1 console=tty0 console=hvc0 name=one")
    domid = host.domid("one")
    port = 5900 + int(host.check(f"xenstore-read /local/domain/{domid}/console/vnc-port")) % 5900
    assert host.check(f"socat -u -T 3 TCP:127.0.0.1:{port} - | head -c 12", 60).startswith("RFB 003.")

    # A row of known text gives the glyphs; each must look different.
    host.guest("one", f"echo {base64.b64encode(ASCII.encode()).decode()} | base64 -d >/tmp/row;"
               " busybox chvt 3; (printf '\\033c'; cat /tmp/row) >/dev/tty3")
    width, height, rows = picture(host, domid)
    assert (width, height) == (800, 600)
    glyphs = dict(zip(rows[0], ASCII))
    assert len(glyphs) == len(ASCII)
    glyphs[((False,) * 8,) * 16] = " "

    # The first terminal has the kernel's messages or the login that follows them.
    host.guest("one", "busybox chvt 1")
    first = read(picture(host, domid)[2], glyphs)
    assert "one login:" in first, first

    # What is typed is seen in the picture, on this terminal and on no other.
    keys(host, domid, "typed")
    assert "login: typed" in read(picture(host, domid)[2], glyphs)
    host.guest("one", "busybox chvt 2")
    second = read(picture(host, domid)[2], glyphs)
    assert "one login:" in second and "typed" not in second, second

    host.check("xl destroy one")
    host.wait_for(f"! pgrep -f 'xen-domid {domid} '")
    assert host.run(f"xenstore-ls /local/domain/0/backend/vfb/{domid}").status != 0
