import Glibc
import TestSupport
import Testing

/// A child that runs a line of sh(1).
private func shell(_ script: String, descriptorLimit: Int? = nil) throws -> ChildProcess {
    try ChildProcess(
        "/bin/sh", ["-c", script], environment: ["GREETING": "hi"], descriptorLimit: descriptorLimit)
}

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `Child processes` {
    @Test func `lines, both streams, the environment and the exit status arrive`() throws {
        let child = try shell("echo $GREETING; echo noise; echo ready now; echo bad >&2; printf rest; exit 3")
        #expect(try child.readLine() == "hi")
        #expect(try child.waitForLine(containing: "ready") == "ready now")
        #expect(try child.readLine(from: .standardError) == "bad")
        #expect(try child.waitForExit() == .exited(3))
        #expect(try child.readLine() == "rest")
        #expect(child.standardOutputText == "hi\nnoise\nready now\nrest")
        #expect(child.standardErrorText == "bad\n")
        #expect { try child.readLine() } throws: { "\($0)".contains("standardOutput of /bin/sh ended") }
        #expect(!child.isRunning)
    }

    @Test func `standard input is written and closed`() throws {
        let child = try ChildProcess("/bin/cat")
        try child.standardInput.send("to and fro\n")
        #expect(try child.readLine() == "to and fro")
        child.standardInput.close()
        #expect(try child.waitForExit() == .exited(0))
    }

    @Test func `much output on both streams stops neither side`() throws {
        let child = try shell(
            "head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait; echo; read line; echo $line")
        try child.standardInput.send("after\n")
        try child.waitForLine(containing: "after")
        #expect(try child.waitForExit() == .exited(0))
        #expect(child.standardErrorText.utf8.count == 3_000_000)
    }

    @Test func `a signal ends it, and signalling it again does nothing`() throws {
        let child = try ChildProcess("/bin/cat")
        #expect(child.isRunning)
        child.signal(SIGTERM)
        #expect(try child.waitForExit() == .signalled(SIGTERM))
        child.signal(SIGTERM)
        #expect { try child.standardInput.send("x") } throws: { ($0 as? PeerError)?.errno == EPIPE }
    }

    @Test func `it starts with the default action for every signal`() throws {
        let before = Glibc.signal(SIGUSR2, SIG_IGN)
        defer { Glibc.signal(SIGUSR2, before) }
        let child = try shell("kill -USR2 $$; echo survived")
        #expect(try child.waitForExit() == .signalled(SIGUSR2))
    }

    @Test func `its descriptor limit is its own, and its process id the program's`() throws {
        let child = try shell("ulimit -n; echo $$", descriptorLimit: 64)
        #expect(try child.readLine() == "64")
        #expect(try child.readLine() == "\(child.pid)")
    }

    @Test func `a wait for it ends with the limit, and letting go of it kills it`() throws {
        let peer: PlainClient
        do {
            let child = try ChildProcess("/bin/cat")
            #expect { try child.readLine(timeLimit: .milliseconds(20)) } throws: {
                ($0 as? PeerError)?.isTimeLimit == true
            }
            #expect { try child.waitForExit(timeLimit: .milliseconds(20)) } throws: {
                ($0 as? PeerError)?.isTimeLimit == true
            }
            #expect(try residentBytes(of: child.pid) > 0)
            #expect(try cpuSeconds(of: child.pid) >= 0)
            peer = child.standardInput
            #expect(kill(child.pid, 0) == 0)
        }
        #expect(peer.descriptor == -1)
    }

    @Test func `a program that does not exist is an error with its path`() {
        #expect { _ = try ChildProcess("/nowhere/at-all") } throws: {
            "\($0)".hasPrefix("posix_spawn: ENOENT") && "\($0)".hasSuffix("/nowhere/at-all")
        }
    }

    @Test func `the product built beside these tests is found, and serves`() throws {
        let child = try ChildProcess(try ChildProcess.pathOfBuiltProduct("echo"), ["--port", "0"])
        let line = try child.waitForLine(containing: "Listening on port ")
        let port = try #require(UInt16(line.split(separator: " ").last ?? ""))
        let client = try PlainClient(port: port)
        try client.echoExactly(1 << 20)
        child.signal(SIGKILL)
        #expect(try child.waitForExit() == .signalled(SIGKILL))
        #expect { try ChildProcess.pathOfBuiltProduct("no-such-product") } throws: {
            "\($0)".contains("/no-such-product")
        }
    }
}

/// These look at, or change, what belongs to the whole process.
@Suite(.timeLimit(.minutes(20)), .onOwnThread, .serialized) struct `Figures of this process` {
    @Test func `an open descriptor is listed with what it is, and is gone once closed`() throws {
        let listener = try PlainListener()
        let descriptor = listener.descriptor
        let target = try #require(try openDescriptors()[descriptor])
        #expect(target.hasPrefix("socket:["))
        listener.close()
        // Another test may have the number by now, but not the same socket.
        #expect(try openDescriptors()[descriptor] != target)
    }

    @Test func `time that this thread burns is counted`() throws {
        let before = try cpuSeconds()
        while try cpuSeconds() < before + 0.02 {}
        #expect(try residentBytes() > 1 << 20)
    }

    @Test func `a descriptor limit holds for the body alone`() throws {
        func softLimit() -> Int {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            return Int(limit.rlim_cur)
        }
        // One less than before hurts no test that runs beside this one.
        let before = softLimit()
        #expect(try withDescriptorLimit(before - 1) { softLimit() } == before - 1)
        #expect(softLimit() == before)
    }

    @Test func `a temporary directory goes with all that is in it, and with nothing that is linked from it`()
        throws
    {
        let kept = try TemporaryDirectory()
        var path = ""
        do {
            let directory = try TemporaryDirectory()
            path = directory.path
            #expect(mkdir(directory.path(of: "inner"), 0o700) == 0)
            let listener = try PlainListener(unixPath: directory.path(of: "inner/socket"))
            #expect(symlink(kept.path, directory.path(of: "link")) == 0)
            withExtendedLifetime(listener) {}
        }
        #expect(access(path, F_OK) == -1)
        #expect(access(kept.path, F_OK) == 0)
    }
}
