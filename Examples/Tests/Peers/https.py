#!/usr/bin/env python3
"""Python's client of HTTPS: https.py ROOTS PORT VERSION

Asks twice, the second time with the session of the first, and tells one line for each: the version, the protocol of
ALPN, whether the session was resumed, and the answer. Without close_notify at the end it fails.
"""

import socket
import ssl
import sys

roots, port, version = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
context.set_alpn_protocols(["h2", "http/1.1"])
session = None
for _ in range(2):
    plain = socket.create_connection(("127.0.0.1", int(port)), timeout=100)
    with context.wrap_socket(
        plain, server_hostname="localhost", session=session, suppress_ragged_eofs=False
    ) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        session = connection.session
        resumed = "resumed" if connection.session_reused else "new"
        body = answer.split(b"\r\n\r\n")[1].decode().strip()
        print(connection.version(), connection.selected_alpn_protocol(), resumed, body)
