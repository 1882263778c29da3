"""A peer to compare with: the same servers over uvloop, with asyncio's protocols, its fastest way.

    python3 server.py [echo | lines | fan-out]     on 127.0.0.1, on a free port; SIGTERM ends it with status 0
"""

import asyncio
import signal
import socket
import sys

import uvloop

members = set()


class Echo(asyncio.Protocol):
    """Whoever does not read the answers is not read from either, so that the queue stays short."""

    def connection_made(self, transport):
        self.transport = transport
        self.write = transport.write
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Lines(Echo):
    """The lines in one call: uvloop would send each write of its own at once."""

    def data_received(self, data):
        # Not splitlines, which ends lines at more than newlines.
        lines = data.split(b"\n")
        last = lines.pop()
        self.transport.writelines([line + b"\n" for line in lines])
        if last:
            self.write(last)


class FanOut(Echo):
    """The bytes object is the same one for all."""

    def connection_made(self, transport):
        super().connection_made(transport)
        members.add(transport)

    def connection_lost(self, error):
        members.discard(self.transport)

    def data_received(self, data):
        for member in members:
            member.write(data)

    def pause_writing(self):
        """What the others send does not depend on whether this one reads."""

    resume_writing = pause_writing


async def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else "echo"
    protocol = {"echo": Echo, "lines": Lines, "fan-out": FanOut}[mode]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=511)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print("Listening on port", server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


uvloop.install()
asyncio.run(main())
