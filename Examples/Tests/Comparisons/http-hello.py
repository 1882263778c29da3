#!/usr/bin/env python3
"""Sends generated requests to http-hello, and compares what it makes of them with h11 and with the RFCs' grammar.

    python3 http-hello.py HTTP-HELLO [--engine libuv] [--count 10000] [--seed 1] [--verbose]

HTTP-HELLO is the built program; it is started here, on a free port, and ended. Each request has a connection of its
own; the client then ends its side, and reads the whole answer.

Three judges say whether the request is one: http-hello with its status, h11 (a parser of another's making: Debian's
python3-h11), and the regular expressions below, which are the RFCs' grammar for what h11 passes on unread: targets and
hosts. They must agree; a difference with a known reason is counted under it. Then the answer itself is held against the
request: status, body or none, and whether the connection ends. Exits with 1 if anything else differs.
"""

import argparse
import collections
import ipaddress
import os
import random
import re
import socket
import subprocess
import sys

try:
    import h11
except ImportError:
    sys.exit("http-hello.py: h11 is not installed: apt-get install python3-h11")

PATIENCE = 30.0

# RFC 3986, appendix A; RFC 9112, section 3.2; RFC 9110, sections 4.2 and 7.2.
PCT = rb"%[0-9A-Fa-f]{2}"
NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|" + PCT + rb")"
PCHAR = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|" + PCT + rb")"
QUERY = rb"(?:\?(?:" + PCHAR + rb"|[/?])*)?"
FUTURE = rb"[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+"
HOST = rb"(?:(?P<name>" + NAME + rb"*)|\[(?:(?P<six>[0-9A-Fa-f:.]+)|" + FUTURE + rb")\])(?P<port>:[0-9]*)?"
ORIGIN = rb"(?P<path>/(?:" + PCHAR + rb"|/)*)" + QUERY
HTTP_URI = rb"[hH][tT][tT][pP]://(?P<authority>[^/?]*)(?P<path>(?:/(?:" + PCHAR + rb"|/)*)?)" + QUERY
OTHER_URI = rb"(?P<scheme>[A-Za-z][A-Za-z0-9+\-.]*):(?:" + PCHAR + rb"|[/?\[\]])*"
KNOWN_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"}


def host(text):
    match = re.fullmatch(HOST, text)
    if not match:
        return None
    if match["six"]:
        try:
            ipaddress.IPv6Address(match["six"].decode())
        except ValueError:
            return None
    return match


def target(method, text):
    """What kind of target it is for this method, and its path; None if it is none."""
    if method == b"CONNECT":
        match = host(text)
        return ("authority", b"") if match and match["name"] != b"" and (match["port"] or b":") != b":" else None
    if text == b"*":
        return ("server", b"")
    if match := re.fullmatch(ORIGIN, text):
        return ("path", match["path"])
    if match := re.fullmatch(HTTP_URI, text):
        authority = host(match["authority"])
        return ("path", match["path"] or b"/") if authority and authority["name"] != b"" else None
    match = re.fullmatch(OTHER_URI, text)
    return ("elsewhere", b"") if match and match["scheme"].lower() != b"http" else None


# Requests for which h11 and the RFCs part, or which both leave to the server: what was sent, the status.
DIFFERENCES = [
    ("an empty line before a request: h11 refuses it, RFC 9112, 2.2, wants it passed over",
     lambda sent, status, verdict: verdict == "no request line received" and re.match(rb"\r?\n", sent)),
    ("a line that continues another (obs-fold): h11 joins them, RFC 9112, 5.2, leaves the choice",
     lambda sent, status, verdict: status == 400 and re.search(rb"\n[ \t]", sent)),
    ("control characters in a value: h11 takes some; RFC 9110, 5.5, calls them invalid",
     lambda sent, status, verdict: status == 400 and re.search(rb"[\x01-\x08\x0e-\x1f\x7f]", sent)),
    ("bytes that are no ASCII but white space to Python, or VT and FF: h11 refuses them in values",
     lambda sent, status, verdict: verdict.startswith("illegal header line") and re.search(rb"[\x85\xa0]", sent)),
    ("Transfer-Encoding beside Content-Length, or in HTTP/1.0: h11 takes it; RFC 9112, 6.1, calls it an attack",
     lambda sent, status, verdict: status == 400 and re.search(rb"\ntransfer-encoding:", sent, re.I)),
    ("no Host in HTTP/1.2 and later: h11 looks in HTTP/1.1 only; RFC 9110, 2.5, reads them as 1.1",
     lambda sent, status, verdict: status == 400 and re.search(rb" HTTP/1.[2-9]\r?\n", sent)
     and not re.search(rb"\nhost:", sent, re.I)),
    ("two Host fields in HTTP/1.0: h11 looks in HTTP/1.1 only; RFC 9112, 3.2, says any request",
     lambda sent, status, verdict: status == 400 and len(re.findall(rb"\nhost:", sent, re.I)) > 1),
]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        # The parts that are odd in this request; with many of them the first would hide the others.
        self.odd_parts = set()

    def is_odd(self, part, one_in=1):
        return part in self.odd_parts and self.chance(one_in)

    def chance(self, one_in):
        return self.random.randrange(one_in) == 0

    def pick(self, choices):
        return self.random.choice(choices)

    def in_some_case(self, name):
        return self.pick([name, name.lower(), name.upper(), bytes(self.pick([c, c ^ 0x20]) if 65 <= c | 0x20 <= 122 and
                                                                   chr(c).isalpha() else c for c in name)])

    def method(self):
        if self.is_odd("method"):
            return self.pick([b"get", b"Get", b"G\xc3\x89T", b"GE T", b"", b"G(T", b"GET\t", b"HEADS", b"head",
                              b"M-SEARCH", b"GET\0", b"PRI", b"'!#$%&*+-.^_`|~", "ＧET".encode()])
        return self.pick([b"GET"] * 12 + [b"HEAD"] * 12 + [b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE",
                                                        b"PATCH"])

    def host(self):
        if not self.is_odd("host"):
            return self.pick([
                b"x", b"x", b"example.org", b"example.org:80", b"EXAMPLE.org:", b"127.0.0.1:8080", b"[::1]",
                b"[::1]:80",
                b"[v1.a:b]", b"[V1F.!]:1", b"a%20b", b"a-b_c~d!$&'()*+,;=", b"%c3%a9"])
        return self.pick([
            b"", b":80", b"a b", b"a/b", b"a@b", b"user@x:1", b"x:y", b"x:-1", b"x:1:2", b"[::1", b"::1", b"[]",
            b"[:]", b"[::1]x",
            b"[v1]", b"[v.a]", b"[vg.a]", b"[fe80::1%25eth0]", b"[fe80::1%eth0]", b"[1::2::3]", b"[12345::]", b"a%2",
            b"a%zz", "é".encode(), b"x,y", b"x, y", b"x\x00", b"a\\b", b"<x>", b"\"x\"", b"x#", b"x?",
            b"[::ffff:1.2.3.4]",
            b"[::256.1.1.1]", b"[::01.2.3.4]", b"[1:2:3:4:5:6:7:8]", b"[1:2:3:4:5:6:7]", b"x:" + b"9" * 30])

    def target(self, method):
        how = self.random.randrange(10)
        if method == b"CONNECT" and how < 8:
            return self.host()
        if how < 7 and not self.is_odd("target"):
            return self.pick([b"/", b"/", b"/?q", b"/none", b"//", b"/a//b/../c", b"/?"])
        if how < 5:
            return self.pick([
                b"/%41", b"/%4", b"/%zz", b"/a#b", b"/a b", b"/\xc3\xa9", b"/a\"b", b"/<x>", b"/[x]", b"/a|b",
                b"/a\\b",
                b"/a:b@c!$&'()*+,;=-._~", b"/?a/b?c=d", b"/?[", b"/?%", b"/?\xff", b"", b"x", b"*", b"**", b"?q",
                b"#",
                b"/\x01", b"/\t", b"/`", b"/{}", b"/^", b":", b":80", b"1:", b"a:", b"a:b", b"/\x7f"])
        if not self.is_odd("target"):
            return b"http://" + self.host() + self.pick([b"", b"/", b"/none", b"?q", b"/?q"])
        scheme = self.pick([b"http", b"http", b"HTTP", b"hTtp", b"https", b"ftp", b"a+b-c.1", b"1a", b"h_", b"",
                            b"file"])
        return scheme + self.pick([b"://", b"://", b"://", b":", b":/", b"//", b":///"]) + self.host() + self.pick(
            [b"", b"/", b"/none", b"?q", b"/?q", b"/%", b"#f", b"/a b", b"?[", b"/\xff"])

    def version(self):
        if self.is_odd("version"):
            return self.pick([b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.1", b"HTTP/2", b"HTTP/1",
                              b"HTTP/1.", b"HTTP/.1", b"HTTP/11.1", b"HTTP/1.10", b"http/1.1", b"Http/1.1",
                              b"HTTP/1,1",
                              b"HTTP/ 1.1", b"HTTPS/1.1", b"HTTP 1.1", b"", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/+1.1",
                              "HTTP/1.１".encode(), b"HTTP/1.1\t", b"HTTP/x.1", b"HTTP1.1", b"1.1"])
        return self.pick([b"HTTP/1.1"] * 5 + [b"HTTP/1.0"])

    def field(self):
        how = self.random.randrange(12) if self.is_odd("field") else 12
        if how < 4:
            name, value = b"Content-Length", self.pick([
                b"0", b"0", b"00", b"000000000000000000", b"5", b"05", b"0 0", b"+0", b"-0", b"+5", b"-1", b"",
                b"0,0", b"0, 0",
                b"5, 5", b"5,6", b"0,", b",0", b"0;0", b"0x0", b"0.0", b"0 ", b"\t0", b"0\t", b"1e0", b"\xb2",
                "٠".encode(),
                b"0\x0b", b"0\xa0", b"\x0c0", b"1_0", b"0\0", b"9" * 19, b"0\t,\t0", b"0 ,0 , 0", b"0 0 0",
                b"\"0\"", b"O"])
        elif how < 6:
            name, value = b"Transfer-Encoding", self.pick([
                b"chunked", b"Chunked", b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"", b"xchunked",
                b"chunked ", b"chunked;q=1", b"chunked\x0b", "ſhunked".encode(), b"chun\0ked", b"chunked,"])
        elif how < 8:
            name, value = b"Connection", self.pick([
                b"close", b"Close", b"keep-alive", b"keep-alive, close", b"close,x", b"closes", b"x close",
                b" close\t",
                b"", b",", b",close,", "cloſe".encode(), b"clos", b"close;x", b"\"close\"", b"keep-alive,\tCLOSE",
                b"@@"])
        elif how == 12:
            name, value = self.pick([
                (b"X", b"y"), (b"Accept", b"*/*"), (b"Content-Length", b"0"), (b"Connection", b"close"),
                (b"Connection", b"keep-alive"), (b"Connection", b"x, Close"), (b"x-y_z", b""), (b"X", b"a\tb c"),
                (b"User-Agent", "é".encode()), (b"Content-Length", b"0, 0"), (b"Hostt", b"x"), (b"Via", b"1.1 x:80")])
        else:
            name = self.pick([b"X", b"Accept", b"x-y_z", b"!#$%&'*+-.^_`|~09", b"Hos", b"Hostt", b"HoSt2", b"Expect"])
            value = self.pick([
                b"", b"y", b" y ", b"a\tb", b"a:b", b"\xff\xfe", "é€".encode(), b"a\rb", b"a\0b", b"a\x0bb",
                b"\x0c", b"\x1b[2J",
                b"a\x7fb", b"\r", b"\x85", b"a\xa0", b"\"q\"", b"x" * 300, b",,", b"\t", b"a \t b"])
        if self.is_odd("name"):
            name = self.pick([name + b" ", name + b"\t", b" " + name, b"\t" + name, name + b"\0", b"", name + b"\xff",
                              b"(" + name + b")", name + b"\r", name + b"=", name[:1] + b" " + name[1:], b"@" + name,
                              name + "\u0301".encode(), name.replace(b"s", "ſ".encode()),
                              name.replace(b"k", "K".encode())])
        mark = b":"
        if self.is_odd("colon", 2):
            mark = self.pick([b"", b"::", ":\u0301".encode(), "：".encode(), b";", b": \r\n "])
        return self.in_some_case(name) + mark + self.pick([b" ", b" ", b"", b"  ", b"\t", b" \t "]) + value

    def end(self):
        return self.pick([b"\n", b"\r\r\n", b"\r", b" \r\n", b"\t\r\n"]) if self.is_odd("end", 4) else b"\r\n"

    def request(self):
        """One request's bytes, and where to cut them."""
        parts = ["method", "host", "target", "version", "field", "name", "colon", "end", "space", "start", "hosts",
                 "fold", "byte"]
        self.odd_parts = set(self.random.sample(parts, self.pick([0, 0, 1, 1, 1, 1, 1, 2, 2, 4])))
        method = self.method()
        separator = self.pick([b"  ", b"\t", b"\r", b"\x0b", b""]) if self.is_odd("space") else b" "
        sent = self.pick([b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\r"]) if self.is_odd("start") else b""
        sent += method + separator + self.target(method) + b" " + self.version() + self.end()
        hosts = [self.in_some_case(b"Host") + b":" + self.pick([b" ", b"", b"\t "]) + self.host()
                 + self.pick([b"", b"", b" \t"])
                 for _ in range(self.pick([0, 2]) if self.is_odd("hosts") else 1)]
        fields = hosts + [self.field() for _ in range(self.pick([0, 0, 1, 1, 2, 3]))]
        if self.is_odd("fold"):
            fields.append(self.pick([b" folded", b"\tfolded", b" ", b"nocolon", b":", b": x"]))
        self.random.shuffle(fields)
        for field in fields:
            sent += field + self.end()
        sent += self.end()
        if self.is_odd("byte"):
            changed = bytearray(sent)
            at = self.random.randrange(len(changed))
            byte = self.pick([0, 9, 10, 13, 32, 58, 47, 37, 63, self.random.randrange(256)])
            how = self.random.randrange(3)
            if how == 0:
                changed[at] = byte
            elif how == 1:
                changed.insert(at, byte)
            else:
                del changed[at]
            sent = bytes(changed)
        cuts = sorted(self.random.randrange(1, len(sent)) for _ in range(self.pick([0, 0, 0, 1, 3])))
        return sent, cuts


def judged_by_h11(sent):
    """h11's request, or why it refuses; (None, None) if it waits for more."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        return None, str(error)
    return (event, None) if isinstance(event, h11.Request) else (None, None)


def is_about_coding(refusal):
    return re.match("Only Transfer-Encoding|multiple Transfer-Encoding", refusal)


def expected(sent):
    """The status that the request should get, by h11 and the grammar, 0 for none, and h11's reason for a refusal."""
    request, refusal = judged_by_h11(sent)
    # The first line decides some statuses at once; the rest need not be right then.
    first = re.match(rb"(?:\r?\n)*([^\n]*?)\r?\n", sent)
    line = first[1] if first else b""
    match = re.fullmatch(rb"([^ ]+) ([^ ]+) (HTTP/([0-9])\.[0-9])", line)
    if match:
        # Is this line one for h11, with the least that must come behind it?
        alone, _ = judged_by_h11(line + b"\r\nHost: x\r\n\r\n")
        kind = target(match[1], match[2])
        if alone is None or kind is None:
            return 400, refusal
        if match[4] != b"1":
            return 505, refusal
        if match[1] not in KNOWN_METHODS:
            return 501, refusal
        if match[1] not in (b"GET", b"HEAD"):
            return 405, refusal
        if kind[0] == "server":
            return 400, refusal
        if kind[0] == "elsewhere":
            return 421, refusal
    if refusal is not None:
        return (501 if is_about_coding(refusal) else 400), refusal
    if request is None:
        # Not whole. A line that is there and wrong is refused at once.
        return (0 if not first or not line or match and are_right(sent[:sent.rfind(b"\n") + 1]) else 400), refusal
    hosts = [value for name, value in request.headers if name == b"host"]
    if any(host(value) is None for value in hosts) or not match:
        return 400, refusal
    fields = dict(request.headers)
    if b"transfer-encoding" in fields and (b"content-length" in fields or request.http_version == b"1.0"):
        return 400, refusal
    if b"transfer-encoding" in fields or int(fields.get(b"content-length", 0)):
        return 413, refusal
    return (200 if kind[1] == b"/" else 404), refusal


def are_right(lines):
    """Whether each line of an unfinished head may be part of one."""
    request, refusal = judged_by_h11(lines + b"\r\n")
    if refusal and "Missing mandatory Host" in refusal:
        request, refusal = judged_by_h11(lines + b"Host: x\r\n\r\n")
    if refusal:
        return is_about_coding(refusal)
    return all(host(value) is not None for name, value in request.headers if name == b"host")


def wants_close(sent):
    """Whether h11 says that the connection ends behind the answer."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    connection.next_event()
    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    return connection.our_state is h11.MUST_CLOSE


class Server:
    def __init__(self, executable, engine):
        self.process = subprocess.Popen(
            [executable, "--engine", engine, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        line = self.process.stdout.readline().decode()
        match = re.match(r"Listening on port (\d+)$", line)
        if not match:
            self.stop()
            sys.exit(f"http-hello.py: http-hello says {line!r}")
        self.address = ("127.0.0.1", int(match[1]))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def answer(self, sent, cuts):
        with socket.create_connection(self.address) as client:
            client.settimeout(PATIENCE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = bytearray()
            for start, end in zip([0] + cuts, cuts + [len(sent)]):
                client.sendall(sent[start:end])
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(1 << 16):
                answer += piece
            return bytes(answer)


def faults_of(answer, sent):
    """What is wrong with the answer itself, read by h11 as a client does."""
    method = re.match(rb"(?:\r?\n)*HEAD ", sent)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="HEAD" if method else "GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    connection.receive_data(b"")
    status, body, closes = 0, b"", False
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
                closes = (b"connection", b"close") in event.headers
                length = dict(event.headers).get(b"content-length")
                if length is None or length == b"0":
                    return status, closes, "no Content-Length"
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return status, closes, f"{event!r} in place of an answer"
    except h11.RemoteProtocolError as error:
        return status, closes, str(error)
    if connection.trailing_data[0]:
        return status, closes, f"{connection.trailing_data[0][:60]!r} behind the answer"
    if not method and not body:
        return status, closes, "no body"
    return status, closes, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--engine", default="libuv")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print each known difference too")
    options = parser.parse_args()
    generator = Generator(options.seed)
    known, statuses, unknown = collections.Counter(), collections.Counter(), 0
    server = Server(options.server, options.engine)
    try:
        for _ in range(options.count):
            sent, cuts = generator.request()
            # One request only: a head that ends early would make another one of the rest.
            if (end := re.search(rb"[^\n]\r?\n\r?\n", sent)) and end.end() < len(sent):
                sent, cuts = sent[:end.end()], [cut for cut in cuts if cut < end.end()]
            answer = server.answer(sent, cuts)
            status, closes, fault = faults_of(answer, sent) if answer else (0, False, None)
            right, refusal = expected(sent)
            statuses[status] += 1
            problem = fault
            if not problem and status != right:
                reason = next((text for text, holds in DIFFERENCES if holds(sent, status, refusal or "")), None)
                if reason:
                    known[reason] += 1
                    if options.verbose:
                        print(f"sent {sent!r}\n  {status}, not {right}: {reason}")
                    continue
                problem = f"status {status}, not {right} (h11: {refusal})"
            if not problem and status in (200, 404) and not refusal and closes != wants_close(sent):
                problem = f"{'closes' if closes else 'does not close'}, other than h11"
            if not problem and status not in (0, 200, 404) and not closes:
                problem = "a refusal that does not close"
            if problem:
                unknown += 1
                print(f"sent {sent!r}\n  {problem}\n  {answer[:200]!r}")
    finally:
        server.stop()
    for reason, count in known.most_common():
        print(f"{count} requests differ: {reason}")
    told = ", ".join(f"{count} x {status or 'none'}" for status, count in sorted(statuses.items()))
    print(f"{options.count} requests ({told}), h11 {h11.__version__}, seed {options.seed}, {options.engine}: "
          f"{unknown} differences without a known reason")
    sys.exit(1 if unknown else 0)


if __name__ == "__main__":
    main()
