#!/usr/bin/env python3
"""Plays generated commands to keyvalue and to a real Redis server, and compares what they answer, byte for byte.

    python3 keyvalue.py KEYVALUE [--engine libuv] [--count 10000] [--seed 1] [--verbose]

KEYVALUE is the built program. Both servers are started here, on a Unix socket and on a free port, and ended. Commands
come in conversations, each on a connection of its own, whose keys it removes first; then the client ends its side and
reads all answers. Some conversations are changed at random places afterwards, most are cut into pieces.

Prints each difference that has no known reason; exits with 1 if there is one. A difference is played again before it
counts, since the time to live that TTL tells depends on the moment.
"""

import argparse
import collections
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 30.0


def asks_web(sent):
    """Whether this may be a web request, also between quotation marks."""
    plain = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), sent)
    return re.search(rb"POST|HOST:", plain, re.I)


LEFT_OUT = re.compile(rb"-ERR (unknown command|unknown subcommand|syntax error|Unsupported)")

# What may differ, and why. Each takes what was sent and both answers, as bytes, and where they part.
DIFFERENCES = [
    (
        "what was asked before POST or Host: Redis drops answers that it has not sent; they are sent here",
        lambda sent, ours, theirs: theirs[1] == b"" and asks_web(sent),
    ),
    (
        "NUL in an inline command: Redis looks for the line's end no further and never answers; refused here",
        lambda sent, ours, theirs: b"NUL in inline request" in ours[1],
    ),
    (
        "NUL in the line of a length: Redis looks for its end no further and never answers; refused here",
        lambda sent, ours, theirs: theirs[1] == b"" and b"\0" in sent
        and re.search(rb"invalid (multi)?bulk length|expected '\$'", ours[1]),
    ),
    (
        "lines of lengths and inline commands of more than 4 KiB: 64 KiB in Redis, or what one read brings",
        lambda sent, ours, theirs: re.match(rb"-ERR Protocol error: too big", ours[1]),
    ),
    (
        "more than 1,024 arguments",
        lambda sent, ours, theirs: b"invalid multibulk length" in ours[1]
        and any(1024 < int(n) < 1 << 31 for n in re.findall(rb"\*([1-9]\d{3,9})\r", sent)),
    ),
    (
        "arguments of more than 1 MiB",
        lambda sent, ours, theirs: b"invalid bulk length" in ours[1]
        and any(1 << 20 < int(n) <= 1 << 29 for n in re.findall(rb"\$([1-9]\d{5,8})\r", sent)),
    ),
    (
        "HELLO without an error: another server greets, with less to tell",
        lambda sent, ours, theirs: ours[1] == b"*6\r\n" and theirs[1] == b"*14\r\n",
    ),
    (
        "a command or an option that is left out",
        lambda sent, ours, theirs: LEFT_OUT.match(ours[1]) and not LEFT_OUT.match(theirs[1]),
    ),
]

KEYS = [b"a", b"b", b"key", b"", b"\xff\x00\r\n", "ſ".encode()]
NAMES = [b"GET", b"SET", b"DEL", b"EXISTS", b"INCR", b"EXPIRE", b"TTL", b"PING", b"ECHO"]
NUMBERS = [
    b"0", b"1", b"-1", b"7", b"42", b"100", b"-100", b"100000",
    b"-0", b"+1", b"+0", b"01", b"007", b"00", b"-01", b"--1", b"-", b"+", b"", b" 1", b"1 ", b"\t1", b"1\n", b"1\0",
    b"1.0", b"1e3", b"0x10", b"1_000", b"1,000", "٣".encode(), "１".encode(), "−1".encode(), b"\xb2",
    b"9223372036854775806", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775807",
    b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"9" * 40, b"0" * 40,
    b"9223372036854775", b"9223372036854776", b"-9223372036854775", b"-9223372036854776", b"9223370000000000",
    b"3153600000", b"31536000001", b"99999999999",
]
TIMES = [b"100", b"1000", b"99999", b"100000", b"123000"]
ODD_NAMES = [
    "ſet".encode(), "SEſ".encode(), "pıng".encode(), "PİNG".encode(), "ＧＥＴ".encode(), "e\u0301cho".encode(), b"",
    b"GET\0", b"\0GET", b"GET ", b" GET", b"GETX", b"GE", b"get\r\n", b"\x1b[2J", b"\xff\xfe", b"x" * 200, b"*1",
    b"$3",
]
WEB = [b"POST", b"post", b"Host:", b"HOST:", b"host:", b"Post\0x", b"HOST", b"Host:x", b"POSTS"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        # How often something is odd: a conversation with much of it ends before the rest is looked at.
        self.oddness = 1

    def odd(self, one_in):
        return self.random.randrange(one_in * self.oddness) == 0

    def chance(self, one_in):
        return self.random.randrange(one_in) == 0

    def pick(self, choices):
        return self.random.choice(choices)

    def in_some_case(self, name):
        how = self.random.randrange(4)
        if how == 0:
            return name.lower()
        if how == 1:
            return bytes(self.pick([c, c | 0x20]) if 0x41 <= c <= 0x5A else c for c in name)
        return name

    def value(self):
        how = self.random.randrange(8)
        if how < 4:
            return self.pick(NUMBERS)
        if how == 4:
            return self.random.randbytes(self.random.randrange(40))
        if how == 5:
            return b"v" * self.pick([100, 1000, 5000])
        return self.pick([b"value", b"two words", b'"quoted"', b"'", b"\\", b"line\r\nline"])

    def time(self):
        return self.pick(TIMES) if self.chance(2) else self.pick(NUMBERS)

    def option(self):
        odd = [b"EX\0", b"EXX", b"E", b"", b"P\xd8\xbe", b"\r\n", b"0"]
        return self.in_some_case(self.pick([b"EX", b"PX", b"EX", b"PX"] + odd))

    def command(self):
        """One command's arguments."""
        if self.odd(40):
            return [self.pick(WEB)] + [self.value() for _ in range(self.random.randrange(3))]
        if self.odd(40):
            return [self.pick([b"GET", b"POST"]), b"/", b"HTTP/1.1"]
        if self.chance(12):
            return [self.pick(ODD_NAMES)] + [self.value() for _ in range(self.random.randrange(12))]
        if self.odd(40):
            return [self.in_some_case(b"QUIT")] + [self.value() for _ in range(self.random.randrange(2))]
        if self.chance(40):
            return [self.in_some_case(b"HELLO"), self.pick(NUMBERS[9:])] + ([self.value()] if self.chance(3) else [])
        if self.chance(40):
            name = self.pick([b"GET", b"get", b"GE", b"G\xe2", b"GET\0"])
            return [self.in_some_case(b"CONFIG"), name] + [
                self.in_some_case(self.pick([b"save", b"appendonly", b"none", b"", b"\0"]))
                for _ in range(self.random.randrange(2))]
        name = self.pick(NAMES)
        if self.chance(12):
            count = self.random.randrange(6)
            return [self.in_some_case(name)] + [self.pick(KEYS + NUMBERS) for _ in range(count)]
        arguments = [self.pick(KEYS)]
        if name == b"SET":
            arguments.append(self.value())
            for _ in range(self.pick([0, 0, 1, 1, 1, 2])):
                arguments.append(self.option())
                if not self.chance(10):
                    time = self.time()
                    # What expires at once, does so now here and now there.
                    arguments.append(b"100000" if re.fullmatch(rb"[1-9]\d{0,2}", time) else time)
        elif name == b"EXPIRE":
            arguments.append(self.time())
            if self.chance(8):
                arguments.append(self.pick([b"x", b"", b"N", b"\r\nX", b"nx\xff"]))
        elif name in (b"DEL", b"EXISTS"):
            arguments += [self.pick(KEYS) for _ in range(self.random.randrange(3))]
        elif name == b"PING" and self.chance(2):
            arguments = []
        elif name == b"ECHO":
            arguments = [self.value()]
        return [self.in_some_case(name)] + arguments

    def as_array(self, arguments):
        odd = self.odd(15)
        at = self.random.randrange(len(arguments) + 1)

        def length(number, index):
            if not odd or index != at:
                return b"%d" % number
            return self.pick([
                b"0%d" % number, b"+%d" % number, b" %d" % number, b"%d " % number, b"%d\n" % number, b"-%d" % number,
                b"%d\0" % number, b"%dx" % number, b"", b"-0", b"%d" % (number + 1), b"%d" % max(0, number - 1),
                b"1025", b"2000000", b"2147483647", b"2147483648", b"536870913", b"9223372036854775808"])

        def end():
            return self.pick([b"\n", b"\r", b"\rx", b"\r\r\n", b"xx", b"  "]) if odd and self.chance(6) else b"\r\n"

        request = b"*" + length(len(arguments), 0) + end()
        for index, argument in enumerate(arguments):
            mark = self.pick([b"", b"*", b":", b"$$", b"\0", b"\r", b"\xff"]) if odd and self.chance(12) else b"$"
            request += mark + length(len(argument), index + 1) + end() + argument + end()
        return request

    def as_line(self, arguments):
        """Words that mean these arguments, mostly."""
        request = self.pick([b"", b"", b" ", b"\t "])
        for index, argument in enumerate(arguments):
            if index:
                request += self.pick([b" ", b" ", b" ", b"  ", b"\t", b" \r ", b"\v", b" \f"])
            how = self.random.randrange(12)
            if how == 0 and self.odd(2):
                request += self.pick([b'"', b"'"]) + argument + self.pick([b'"', b"'", b'"x', b""])
            elif how == 1:
                request += b"'" + argument.replace(b"'", b"\\'") + b"'"
            elif how == 2:
                request += b'"' + b"".join(b"\\x%02x" % byte for byte in argument) + b'"'
            elif how == 3 and self.odd(2):
                request += argument + self.pick([
                    b'"a b"', b"'a\\tb'", b'"\\n\\r\\t\\b\\a\\q\\"\\x4"', b"\\x41", b'"\\'])
            elif argument == b"" or re.search(rb"[\s\0\"']", argument):
                if self.odd(4):
                    request += argument
                else:
                    request += b'"' + b"".join(
                        b"\\x%02x" % byte if byte < 32 else b"\\" + bytes([byte]) if byte in b"\"\\" else bytes([byte])
                        for byte in argument) + b'"'
            else:
                request += argument
        return request + self.pick([b"\r\n", b"\r\n", b"\n", b" \r\n"])

    def conversation(self):
        """A whole client's bytes, and how many commands they are."""
        self.oddness = self.pick([1, 4, 16])
        count = self.random.randrange(1, 16)
        requests = []
        for _ in range(count):
            arguments = self.command()
            requests.append(self.as_line(arguments) if self.chance(3) else self.as_array(arguments))
            if self.chance(20):
                requests.append(self.pick([b"\r\n", b"\n", b"*0\r\n", b"*-1\r\n", b"*-7\r\n", b"   \r\n"]))
        if self.chance(30):
            requests.append(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nSET a b\r\n")
        if self.chance(30):
            requests.append(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n")
        sent = bytearray(b"".join(requests))
        if self.odd(2):
            for _ in range(self.random.randrange(1, 3)):
                at = self.random.randrange(len(sent))
                byte = self.pick([0, 9, 10, 13, 32, 34, 36, 39, 42, 43, 45, 48, 49, 92, self.random.randrange(256)])
                how = self.random.randrange(3)
                if how == 0:
                    sent[at] = byte
                elif how == 1:
                    sent.insert(at, byte)
                elif len(sent) > 1:
                    del sent[at]
        if self.chance(10):
            del sent[self.random.randrange(1, len(sent) + 1):]
        cuts = sorted(self.random.randrange(len(sent)) for _ in range(self.pick([0, 0, 1, 3])))
        return bytes(sent), cuts, count


class Server:
    def __init__(self, command, connect, ready):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            self.address = ready(self.process)
        except BaseException:
            self.stop()
            raise
        self.connect = connect

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def answers(self, sent, cuts, keeps=False):
        """What the server answers until it, or the client that has sent this, ends."""
        with self.connect(self.address) as client:
            client.settimeout(PATIENCE)
            answers = bytearray()
            try:
                if not keeps:
                    # All keys, so that conversations do not depend on each other.
                    keys = KEYS + NUMBERS
                    client.sendall(b"*%d\r\n$3\r\nDEL\r\n" % (len(keys) + 1)
                                   + b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys))
                    while not answers.endswith(b"\r\n"):
                        answers += client.recv(100)
                    answers.clear()
                for start, end in zip([0] + cuts, cuts + [len(sent)]):
                    client.sendall(sent[start:end])
                client.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            except OSError as error:
                if error.errno != 107:
                    raise
            try:
                while piece := client.recv(1 << 16):
                    answers += piece
            except ConnectionResetError:
                pass
            return bytes(answers)


    def state(self):
        """The values that the keys have now."""
        asks = b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in KEYS)
        return self.answers(asks, [], keeps=True)


def start_redis(executable, directory):
    path = os.path.join(directory, "redis.sock")

    def ready(process):
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(path):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("keyvalue.py: redis-server does not start")
            time.sleep(0.01)
        return path

    def connect(path):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        return client

    # Nothing is saved, and nothing listens beyond the directory.
    return Server(
        [executable, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory,
         "--logfile", os.path.join(directory, "redis.log")], connect, ready)


def start_keyvalue(executable, engine):
    def ready(process):
        line = process.stdout.readline().decode()
        match = re.match(r"Listening on port (\d+)$", line)
        if not match:
            sys.exit(f"keyvalue.py: keyvalue says {line!r}")
        return ("127.0.0.1", int(match[1]))

    def connect(address):
        client = socket.create_connection(address)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    return Server([executable, "--engine", engine, "--port", "0"], connect, ready)


def replies(answers):
    """Takes answers apart, as far as they are whole; what is left comes last."""
    found, at = [], 0
    while at < len(answers):
        end = answers.find(b"\r\n", at)
        if end < 0:
            break
        stop = end + 2
        if answers[at:at + 1] == b"$" and answers[at + 1:at + 2] != b"-":
            stop += int(answers[at + 1:end]) + 2
        found.append(answers[at:stop])
        at = stop
    if at < len(answers):
        found.append(answers[at:])
    return found


def parting(ours, theirs):
    """The first replies that differ: their number and the two."""
    one, other = replies(ours), replies(theirs)
    for index in range(max(len(one), len(other))):
        mine = one[index] if index < len(one) else b""
        other_one = other[index] if index < len(other) else b""
        if mine != other_one:
            return (index, mine), (index, other_one)
    return (0, ours), (0, theirs)


def shown(sent):
    """Bytes for a line, without the middle of long runs."""
    return re.sub(r"(.)\1{40,}", r"\1\1\1…\1", repr(sent))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("keyvalue")
    parser.add_argument("--redis", default=shutil.which("redis-server"))
    parser.add_argument("--engine", default="libuv")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print each known difference too")
    options = parser.parse_args()
    if not options.redis:
        sys.exit("keyvalue.py: redis-server is not installed: apt-get install redis-server")
    generator = Generator(options.seed)
    known, unknown, commands, answered = collections.Counter(), 0, 0, 0
    with tempfile.TemporaryDirectory() as directory:
        redis = start_redis(options.redis, directory)
        try:
            keyvalue = start_keyvalue(options.keyvalue, options.engine)
        except BaseException:
            redis.stop()
            raise
        try:
            while commands < options.count:
                sent, cuts, count = generator.conversation()
                commands += count
                for _ in range(3):
                    theirs = redis.answers(sent, cuts)
                    ours = keyvalue.answers(sent, cuts)
                    if ours == theirs:
                        break
                answered += len(replies(theirs))
                reason = None
                if ours != theirs:
                    mine, other = parting(ours, theirs)
                    reason = next((text for text, holds in DIFFERENCES if holds(sent, mine, other)), None)
                # What must not be performed shows in no answer.
                if ours == theirs or reason == DIFFERENCES[0][0] and b"Protocol error" not in ours:
                    mine, other = parting(keyvalue.state(), redis.state())
                    if mine != other:
                        reason = None
                    elif ours == theirs:
                        continue
                if reason:
                    known[reason] += 1
                if not reason or options.verbose:
                    unknown += not reason
                    print(f"sent {shown(sent)}\n  reply {mine[0]}: keyvalue {shown(mine[1])}")
                    print(f"  redis-server {shown(other[1])}\n  {reason or 'no known reason'}")
        finally:
            keyvalue.stop()
            redis.stop()
    for reason, count in known.most_common():
        print(f"{count} conversations part at: {reason}")
    print(f"{commands} commands, {answered} replies, seed {options.seed}, {options.engine}: "
          f"{unknown} differences without a known reason")
    sys.exit(1 if unknown else 0)


if __name__ == "__main__":
    main()
