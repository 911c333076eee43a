"""The screen and the keyboard of PV guests (vfb): stock QEMU in domain 0 shows what the guest's kernel
draws. Pictures come and keys go by VNC, as for a person. Text in a picture is read with the glyphs
that the guest itself drew for a known row, so no font is needed here."""

import base64
import os
import re
import subprocess

import pytest

import machine as m
import rfb
import screen

pytestmark = pytest.mark.slow


def create(host, name, vfb="vnc=1,vnclisten=127.0.0.1,vncunused=1", image="one", **settings):
    host.run(f"xl destroy {name}; while xl domid {name}; do sleep 0.5; done", 60)
    host.create(name, memory=192, disk=[m.disk(image)], vfb=[vfb],
                extra=f"root=/dev/xvda1 console=tty0 console=hvc0 name={name}", **settings)


def learn(host, name, view):
    """Glyphs from a row of known text on the third terminal."""
    host.guest(name, f"echo {base64.b64encode(screen.ASCII.encode()).decode()} | base64 -d >/tmp/row;"
               " busybox chvt 3; (printf '\\033c'; cat /tmp/row) >/dev/tty3; sleep 2")
    return glyphs_of(host, view.rows)


def glyphs_of(host, rows):
    """From a picture whose first row will be of all characters: what is drawn comes some time later."""
    for _ in range(60):
        first = rows()[0]
        if len(set(first[:94])) == 94:
            return screen.learn(first)
        host.check("sleep 1")
    raise AssertionError(f"{len(set(first[:94]))} of 94 characters in the first row")


def shows(host, view, glyphs, pattern, tries=20):
    """Waits for text on the screen."""
    for _ in range(tries):
        text = screen.text(view.rows(), glyphs)
        if re.search(pattern, text):
            return text
        host.check("sleep 1")
    raise AssertionError(f"no {pattern!r} on the screen:\n{text}")


@pytest.fixture
def one(host):
    create(host, "one")
    yield host
    if host.child.isalive():
        host.run("xl destroy one", 60) # gone already when all went well


def test_screen_and_keyboard(one):
    domid = one.domid("one")
    with rfb.Screen(one, one.vnc_port("one")) as view:
        glyphs = learn(one, "one", view)
        assert (view.width, view.height) == (800, 600)

        # The first terminal has the kernel's messages, and after them the login.
        view.press("ctrl", "alt", "F1")
        first = shows(one, view, glyphs, "one login:")
        said = re.findall(r"^\[ *(\d+\.\d{6})\] (.*)$", first, re.M)
        log = one.guest("one", "dmesg")
        assert len(said) > 3 and all(f"{time}] {text}"[:90] in log for time, text in said), first

        # What is typed is seen in the picture, on this terminal and on no other.
        view.type("typed")
        assert "login: typed" in shows(one, view, glyphs, "typed")
        view.press("ctrl", "alt", "F2")
        second = shows(one, view, glyphs, "one login:.*")
        assert "typed" not in second, second

        # A login; what a command prints is the work of the guest and comes back as a picture.
        view.type("root\n")
        shows(one, view, glyphs, r"(?m)^one:~#$")
        view.type("echo $((6*7)) {a,b}{c,d}| tr a-z A-Z; tty\n")
        shows(one, view, glyphs, r"(?m)^42 AC AD BC BD\n/dev/tty2$")
        view.press("ctrl", "c")
        view.press("ctrl", "alt", "F1")
        assert "login: typed" in shows(one, view, glyphs, "login: typed")

    one.check("xl destroy one")
    one.wait_for(f"! pgrep -f 'xen-domid {domid} '")
    assert one.run(f"xenstore-ls /local/domain/0/backend/vfb/{domid}").status != 0


def test_displays(host):
    """Two guests, each with a display of its own."""
    for name in ("one", "two"):
        create(host, name, image=name)
    ports = {name: host.vnc_port(name) for name in ("one", "two")}
    assert ports["one"] != ports["two"]
    with rfb.Screen(host, ports["one"]) as one, \
            rfb.Screen(host, ports["two"]) as two:
        seen = {}
        for name, view in (("one", one), ("two", two)):
            seen[name] = learn(host, name, view)
            view.press("ctrl", "alt", "F1")
            shows(host, view, seen[name], f"{name} login:")
        for view, text in ((one, "first"), (two, "other")):
            view.type(text)
        assert "other" not in shows(host, one, seen["one"], "one login: first")
        assert "first" not in shows(host, two, seen["two"], "two login: other")

        # The end of one is the end of its display only.
        host.check("xl destroy two", 60)
        host.wait_for("! socat -u OPEN:/dev/null TCP:127.0.0.1:%d" % ports["two"], 30)
        one.type("again")
        shows(host, one, seen["one"], "one login: firstagain")
    host.check("xl destroy one", 60)


@pytest.fixture
def desktop(slot):
    """A machine whose second disk is that of a guest with an X server."""
    image = os.path.join(m.BUILD, "guest", "desktop.img")
    subprocess.run([os.path.join(m.TOP, "system", "guest", "desktop")], check=True)
    return slot.shared("desktop", cpus=2, memory=4096, extra_disks=[image],
                       xen="loglvl=all guest_loglvl=all")


# Makes a configuration of the X server out of the input devices that the kernel found, and starts it
# with a terminal that begins with the row in /tmp/row.
START_X = r"""
event() { awk -v RS= -v name="$1" '$0 ~ name && match($0, /event[0-9]+/) {
    print substr($0, RSTART, RLENGTH); exit }' /proc/bus/input/devices; }
cat >/tmp/xorg.conf <<END
Section "Device"
    Identifier "screen"
    Driver "fbdev"
EndSection
Section "InputDevice"
    Identifier "keys"
    Driver "evdev"
    Option "Device" "/dev/input/$(event 'Virtual Keyboard|Set 2 keyboard')"
EndSection
Section "InputDevice"
    Identifier "mouse"
    Driver "evdev"
    Option "Device" "/dev/input/$(event 'Virtual Pointer|Mouse')"
EndSection
Section "ServerLayout"
    Identifier "all"
    InputDevice "keys" "CoreKeyboard"
    InputDevice "mouse" "CorePointer"
    Option "AutoAddDevices" "false"
EndSection
END
(Xorg :0 -config /tmp/xorg.conf -ac -novtswitch vt7 >/tmp/x.log 2>&1 &)
for i in $(seq 60); do [ -S /tmp/.X11-unix/X0 ] && break; sleep 1; done
[ -S /tmp/.X11-unix/X0 ] || tail -n 30 /tmp/x.log
busybox chvt 7
(DISPLAY=:0 xterm -geometry 100x24+0+0 -b 0 -bw 0 +sb -fn 6x13 -bg black -fg white \
    -e sh -c 'cat /tmp/row; echo; exec sh' >/tmp/xterm.log 2>&1 &)
"""


def x_server(host, name, view):
    """What is typed and clicked reaches a program under an X server, which draws on the screen."""
    def put(text, path):
        return f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}; "

    def rows():
        return screen.cells((view.width, view.height, view.lit()), 6, 13)

    def wait(pattern):
        for _ in range(30):
            seen = screen.text(rows(), glyphs)
            if re.search(pattern, seen):
                return
            host.check("sleep 1")
        raise AssertionError(f"no {pattern!r} on the screen:\n{seen}")

    host.guest(name, put(screen.ASCII, "/tmp/row") + put(START_X, "/tmp/start") + "bash /tmp/start", 200)
    glyphs = glyphs_of(host, rows)
    view.type("echo $((6*7)) typed | tr a-z A-Z\n")
    wait(r"(?m)^42 TYPED$")
    # A terminal that reports clicks (xterm's control sequences, "X10 mouse reporting"): button 1.
    view.type("stty raw; printf '\\033[?9h'; busybox head -c 4 | od -c; stty -raw\n")
    host.check("sleep 2")
    view.click(350, 250)
    view.click(300, 200)
    wait(r"033 +\[ +M")


def test_desktop(desktop):
    host = desktop
    host.create("one", memory=256, vcpus=2, disk=[m.disk("/dev/vdb")],
                vfb=["vnc=1,vnclisten=127.0.0.1,vncunused=1"])
    with rfb.Screen(host, host.vnc_port("one")) as view:
        x_server(host, "one", view)
    host.check("xl destroy one", 60)


def test_full_desktop(desktop):
    """The same in a PC: a graphical boot menu, the kernel's messages, terminals, an X server; all by
    the emulated graphics card, keyboard and mouse."""
    host = desktop
    host.create("pc", login=False, type="hvm", memory=384, vcpus=2, vnc=1, serial="pty", hdtype="ahci",
                vkb_device=0, vga="stdvga", disk=[m.disk("/dev/vdb", "hda")])
    with rfb.Screen(host, host.vnc_port("pc")) as view:
        view.pause = 0.3 # the emulated keyboard drops what the guest does not fetch in time
        host.wait_for("xl dmesg | grep -q 'Booting from 0000:7c00'", 240)
        for _ in range(120):
            if sum(view.lit()) > 3000 and (view.width, view.height) == (800, 600):
                break
            host.check("sleep 0.5")
        view.press_until_seen("down") # which stops the countdown
        view.press_until_seen("up")
        view.press("\n")
        host.guest("pc", "true", 300)
        glyphs = learn(host, "pc", view)
        view.press_until_seen("ctrl", "alt", "F1")
        said = shows(host, view, glyphs, "login:")
        assert re.search(r"(?m)^\[ *\d+\.\d{6}\] \S", said), said
        view.press_until_seen("ctrl", "alt", "F2")
        view.type("root\n")
        shows(host, view, glyphs, r"(?m)~#$")
        view.type("echo $((6*7)); tty\n")
        shows(host, view, glyphs, r"(?m)^42\n/dev/tty2$")
        x_server(host, "pc", view)
    host.check("xl destroy pc", 60)
