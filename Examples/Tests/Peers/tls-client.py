#!/usr/bin/env python3
"""A client of TLS that ends in every way there is: tls-client.py ROOTS PORT VERSION WAY [BYTES]

WAY, behind the handshake:
  half     sends BYTES bytes and close_notify, without FIN; then reads until the server's close_notify
  cut      sends BYTES bytes and FIN without close_notify
  reset    sends BYTES bytes and RST
  fill     sends until the server takes no more for a second; BYTES is the most; then waits for its standard input
  idle     reads nothing until its standard input ends, and then RST
  read     reads until the end, whichever it is, and answers close_notify with its own

It tells how many bytes it has sent, or read with their SHA-256, and how it ended: "end" for close_notify, "cut" for FIN
alone, "reset".
"""

import hashlib
import random
import select
import socket
import ssl
import struct
import sys

PATIENCE = 100


class Client:
    def __init__(self, roots, port, version):
        context = ssl.create_default_context(cafile=roots)
        context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.received, self.sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.received, self.sealed, server_hostname="localhost")
        while not self.is_done(self.tls.do_handshake):
            self.send()
            self.receive()
        self.send()

    def is_done(self, step):
        try:
            step()
            return True
        except ssl.SSLWantReadError:
            return False

    def send(self):
        self.socket.sendall(self.sealed.read())

    def receive(self):
        piece = self.socket.recv(65536)
        if piece:
            self.received.write(piece)
        else:
            self.received.write_eof()

    def read_to_the_end(self):
        digest, count = hashlib.sha256(), 0
        ending = None
        while ending is None:
            try:
                piece = self.tls.read(65536)
                digest.update(piece)
                count += len(piece)
                if not piece:
                    ending = "end"
            except ssl.SSLWantReadError:
                try:
                    self.receive()
                except ConnectionResetError:
                    ending = "reset"
            except ssl.SSLZeroReturnError:
                ending = "end"
            except ssl.SSLEOFError:
                ending = "cut"
        print(count, digest.hexdigest(), ending, flush=True)
        return ending

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def fill(self, most):
        self.socket.setblocking(False)
        sent = 0
        piece = bytes(65536)
        while sent < most:
            self.tls.write(piece)
            rest = self.sealed.read()
            while rest:
                if not select.select([], [self.socket], [], 1)[1]:
                    return sent
                try:
                    rest = rest[self.socket.send(rest):]
                except BlockingIOError:
                    pass
            sent += len(piece)
        return sent


def main():
    roots, port, version, way = sys.argv[1:5]
    count = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    client = Client(roots, int(port), version)
    if way in ("half", "cut", "reset"):
        data = random.Random(count).randbytes(count)
        client.tls.write(data) if data else None
        client.send()
        print(count, hashlib.sha256(data).hexdigest(), flush=True)
    if way == "half":
        if client.is_done(client.tls.unwrap):
            sys.exit("the server's close_notify came before this one's")
        client.send()
        client.read_to_the_end()
    elif way == "cut":
        client.socket.shutdown(socket.SHUT_WR)
        client.read_to_the_end()
    elif way == "reset":
        client.reset()
    elif way == "fill":
        print(client.fill(count), flush=True)
        sys.stdin.read()
        client.reset()
    elif way == "idle":
        print("open", flush=True)
        sys.stdin.read()
        client.reset()
    else:
        print("open", flush=True)
        if client.read_to_the_end() == "end":
            client.tls.unwrap()
            client.send()


main()
