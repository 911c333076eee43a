"""A client of the remote framebuffer protocol, RFB 3.8 (RFC 6143), as small as reading pictures and
typing need it."""

import socket
import struct
import time

import screen

KEYS = {"\n": 0xff0d, "\b": 0xff08, "\t": 0xff09, "\x1b": 0xff1b, "ctrl": 0xffe3, "alt": 0xffe9,
        "shift": 0xffe1, "left": 0xff51, "up": 0xff52, "down": 0xff54, **{f"F{n}": 0xffbd + n for n in range(1, 13)}}

SHIFTED = '~!@#$%^&*()_+{}|:"<>?' # on the keyboard that QEMU takes us to have


class Screen:
    """One connection to a VNC server inside the emulated machine: domain 0 dials out to us and
    joins the two ends, because nothing outside can dial in."""

    pause = 0.05 # s between typed keys

    def __init__(self, host, port):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(120)
            host.check(f"(socat TCP:10.0.2.2:{listener.getsockname()[1]} TCP:127.0.0.1:{port} &)"
                       " >/dev/null 2>&1 </dev/null")
            self.peer = listener.accept()[0]
        self.peer.settimeout(120)
        self._begin()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.peer.close()

    def _take(self, layout):
        data = self._bytes(struct.calcsize(">" + layout))
        return struct.unpack(">" + layout, data)

    def _bytes(self, size):
        parts = []
        while size:
            part = self.peer.recv(min(size, 1 << 16))
            if not part:
                raise ConnectionError("the VNC server hung up")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _begin(self):
        assert self._bytes(12) == b"RFB 003.008\n"
        self.peer.sendall(b"RFB 003.008\n")
        assert 1 in self._bytes(self._take("B")[0]) # no password
        self.peer.sendall(b"\1")
        assert self._take("I")[0] == 0
        self.peer.sendall(b"\1")
        self.width, self.height, _, name = self._take("HH16sI")
        self.name = self._bytes(name).decode()
        # A byte per point: three bits of red and green, two of blue. Raw, or a new size.
        self.peer.sendall(struct.pack(">Bxxx BBBBHHHBBBxxx", 0, 8, 8, 0, 1, 7, 7, 3, 0, 3, 6))
        self.peer.sendall(struct.pack(">BxHii", 2, 2, 0, -223))

    def points(self):
        """The whole screen now, a byte per point."""
        self.peer.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
        missing, image = self.width * self.height, bytearray(self.width * self.height)
        while missing > 0:
            kind, = self._take("B")
            if kind == 2:
                continue # the bell
            if kind == 3:
                self._bytes(self._take("xxxI")[0]) # text for the clipboard
                continue
            assert kind == 0
            for _ in range(self._take("xH")[0]):
                x, y, width, height, encoding = self._take("HHHHi")
                if encoding == -223:
                    self.width, self.height = width, height
                    return self.points()
                assert encoding == 0
                data = self._bytes(width * height)
                for line in range(height):
                    at = (y + line) * self.width + x
                    image[at:at + width] = data[line * width:(line + 1) * width]
                missing -= width * height
        return bytes(image)

    def lit(self):
        return self.points().translate(bytes([0] + [1] * 255))

    def rows(self):
        """Cells of 8x16 points."""
        return screen.cells((self.width, self.height, self.lit()))

    def press(self, *keys):
        """All keys down, one after the other, and up again; named ones or characters."""
        codes = [KEYS.get(key) or ord(key) for key in keys]
        for down, order in ((1, codes), (0, codes[::-1])):
            for code in order:
                self.peer.sendall(struct.pack(">BBxxI", 4, down, code))

    def click(self, x, y):
        """The first button of the pointer, at a point of the screen that it is moved to before."""
        for buttons in (0, 1, 0):
            self.peer.sendall(struct.pack(">BBHH", 5, buttons, x, y))
            time.sleep(0.2)

    def press_until_seen(self, *keys, tries=10):
        """For programs that lose keys while they begin: again and again, until the picture changes."""
        before = self.points()
        for _ in range(tries):
            self.press(*keys)
            time.sleep(3)
            if self.points() != before:
                return
        raise AssertionError(f"{keys} change nothing on the screen")

    def type(self, text):
        for key in text:
            self.press(*(["shift"] if key.isupper() or key in SHIFTED else []), key)
            time.sleep(self.pause)
