"""An echo server over TLS, one client after the other, with a fault from the third message of 64 bytes on.

    broken-tls.py FAULT CERTIFICATE KEY      on a free port of 127.0.0.1; SIGTERM ends it with status 0

The faults are those of BrokenServer.swift and TLSFault.
"""
import signal
import socket
import ssl
import sys
import time


def make_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if fault == "givesNoTicket":
        context.num_tickets = 0
    return context


def broken(answer, old):
    middle = len(answer) // 2
    if fault == "dropsAByte":
        return answer[:middle] + answer[middle + 1:]
    if fault == "changesAByte":
        return answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1:]
    if fault == "doublesAByte":
        return answer[:middle] + answer[middle:middle + 1] + answer[middle:]
    if fault == "repeatsAnOldMessage":
        return answer[:-64] + old
    return b"" if fault == "neverAnswers" else answer


def serve(client):
    total, old = 0, b""
    while answer := client.recv(64 * 1024):
        total += len(answer)
        old = old or answer[:64]
        if total > 2 * 64:
            if fault == "closesEarly":
                return
            answer = broken(answer, old)
        if answer:
            client.sendall(answer)
    if fault == "saysMoreAtTheEnd":
        client.sendall(b"\1")
    if fault == "neverCloses":
        # Longer than a load waits in a test.
        time.sleep(2)
    if fault != "endsWithoutNotice":
        # Sends close_notify.
        client.unwrap()


fault, certificate, key = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
context = make_context()
with socket.create_server(("127.0.0.1", 0)) as listener:
    print("Listening on port", listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        if fault == "forgetsTickets":
            # The keys of the tickets are the context's.
            context = make_context()
        try:
            with context.wrap_socket(connection, server_side=True) as client:
                serve(client)
        except OSError:
            # The load has seen the fault, and is gone.
            pass
