import BenchmarkKit
import Foundation
import Testing

/// What an echo server may get wrong in TLS, beside what any may.
enum TLSFault: String {
    case endsWithoutNotice
    case givesNoTicket
    case forgetsTickets
}

/// A server of `broken-tls.py`.
private func start(_ fault: String, _ certificate: Certificate) throws -> ServerProcess {
    let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "broken-tls.py").path
    return try ServerProcess(
        fault, command: ["python3", script, fault, certificate.path, certificate.keyPath], core: 0)
}

// In the same suite as those in clear, since only one load may run at a time.
extension `A load checks what comes back` {
    @Test func `the yardstick passes every load over TLS`() throws {
        Load.setPatience(seconds: 20)
        let programs = Programs.ofThisPackage
        let certificate = try Certificate(programs)
        let server = try ServerProcess(
            "the yardstick",
            command: [programs.built + "/echo-libuv-tls-c", certificate.path, certificate.keyPath], core: 0)
        let load = try Load(port: server.port, connections: 3, certificate: certificate)
        #expect(try load.echo(size: 64, seconds: 0) == 3)
        #expect(try load.echo(size: 3_000_000, seconds: 0) == 3)
        try load.grow(to: 20)
        let latencies = try load.echo(size: 64, perSecond: 10_000, messages: 50)
        #expect(latencies.count == 50 && latencies.allSatisfy { $0 > 0 })
        try load.close()
        for resuming in [false, true] {
            let count = try Load.connect(
                port: server.port, atATime: 4, size: 64, seconds: 0.01, certificate: certificate, resuming: resuming)
            #expect(count > 0)
        }
        try server.stop()
    }

    @Test func `a correct server in another language passes over TLS`() throws {
        Load.setPatience(seconds: 20)
        let certificate = try Certificate(.ofThisPackage)
        let server = try start("none", certificate)
        let load = try Load(port: server.port, connections: 1, certificate: certificate)
        for _ in 0..<3 { #expect(try load.echo(size: 64, seconds: 0) == 1) }
        try load.close()
        let count = try Load.connect(
            port: server.port, atATime: 1, size: 64, seconds: 0, certificate: certificate, resuming: true)
        #expect(count == 1)
        try server.stop()
    }

    @Test(arguments: Fault.allCases.filter { $0 != .none }.map { "\($0)" } + [TLSFault.endsWithoutNotice.rawValue])
    func `a broken server fails over TLS`(fault: String) throws {
        let certificate = try Certificate(.ofThisPackage)
        let server = try start(fault, certificate)
        #expect(throws: BenchmarkError.self) {
            let load = try Load(port: server.port, connections: 1, certificate: certificate)
            for _ in 0..<3 { _ = try load.echo(size: 64, seconds: 0) }
            try load.close()
        }
    }

    @Test(arguments: [Fault.saysMoreAtTheEnd, .neverCloses].map { "\($0)" } + [TLSFault.endsWithoutNotice.rawValue])
    func `a broken end fails when each connection over TLS has one message`(fault: String) throws {
        let certificate = try Certificate(.ofThisPackage)
        let server = try start(fault, certificate)
        #expect(throws: BenchmarkError.self) {
            _ = try Load.connect(port: server.port, atATime: 1, size: 64, seconds: 0, certificate: certificate)
        }
    }

    @Test(arguments: [TLSFault.givesNoTicket, .forgetsTickets])
    func `a server that does not resume fails where it has to`(fault: TLSFault) throws {
        Load.setPatience(seconds: 20)
        let certificate = try Certificate(.ofThisPackage)
        let server = try start(fault.rawValue, certificate)
        func connect(resuming: Bool) throws -> Int {
            try Load.connect(
                port: server.port, atATime: 1, size: 64, seconds: 0, certificate: certificate, resuming: resuming)
        }
        #expect(try connect(resuming: false) == 1)
        #expect(throws: BenchmarkError.self) { try connect(resuming: true) }
    }

    @Test func `another certificate is an error`() throws {
        let server = try start("none", try Certificate(.ofThisPackage))
        let other = try Certificate(.ofThisPackage)
        #expect(throws: BenchmarkError.self) { try Load(port: server.port, connections: 1, certificate: other) }
    }

    @Test func `a server in clear is an error over TLS`() throws {
        let server = BrokenServer(.none)
        let certificate = try Certificate(.ofThisPackage)
        #expect(throws: BenchmarkError.self) {
            try Load(port: server.port, connections: 1, certificate: certificate)
        }
    }
}

@Suite(.timeLimit(.minutes(1)))
struct `The certificate of a run` {
    @Test func `is gone with it, and nobody else's before`() throws {
        var certificate: Certificate? = try Certificate(.ofThisPackage)
        let paths = try [#require(certificate).path, #require(certificate).keyPath]
        let folder = URL(filePath: paths[0]).deletingLastPathComponent().path
        let mode = try FileManager.default.attributesOfItem(atPath: folder)[.posixPermissions] as? Int
        #expect(mode == 0o700)
        #expect(paths.allSatisfy { FileManager.default.fileExists(atPath: $0) })
        certificate = nil
        #expect(!FileManager.default.fileExists(atPath: folder))
    }
}

extension `A load checks what comes back` {
    /// The other version that the yardstick speaks, with a client that is not ours.
    @Test(arguments: ["-tls1_2", "-tls1_3"])
    func `the yardstick answers OpenSSL's own client, behind one in clear`(version: String) throws {
        let programs = Programs.ofThisPackage
        let certificate = try Certificate(programs)
        let server = try ServerProcess(
            "the yardstick",
            command: [programs.built + "/echo-libuv-tls-c", certificate.path, certificate.keyPath], core: 0)
        let client = Process()
        client.executableURL = URL(filePath: "/usr/bin/env")
        client.arguments = [
            "openssl", "s_client", version, "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile",
            certificate.path, "-connect",
            "127.0.0.1:\(server.port)",
        ]
        let input = Pipe()
        let output = Pipe()
        client.standardInput = input
        client.standardOutput = output
        client.standardError = FileHandle.nullDevice
        #expect(throws: BenchmarkError.self) {
            try Load(port: server.port, connections: 1, certificate: nil).echo(size: 64, seconds: 0)
        }
        try client.run()
        try input.fileHandleForWriting.write(contentsOf: Data("hello\n".utf8))
        var answer = Data()
        while answer.count < 6, let more = try output.fileHandleForReading.read(upToCount: 1) { answer += more }
        #expect(String(decoding: answer, as: UTF8.self) == "hello\n")
        try input.fileHandleForWriting.close()
        client.waitUntilExit()
        try server.stop()
    }
}
