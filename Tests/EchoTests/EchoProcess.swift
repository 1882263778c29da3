import CallbackServer
import Glibc
import TestSupport
import Testing

/// The built `echo`, running, with a port of the kernel's choice.
struct EchoProcess {
    let child: ChildProcess
    let port: UInt16

    /// Starts `echo --engine <engine> --port 0 <arguments>` and waits until it listens.
    init(_ engine: Engine, _ arguments: [String] = [], descriptorLimit: Int? = nil) throws {
        child = try Self.start(["--engine", engine.rawValue, "--port", "0"] + arguments, descriptorLimit)
        let line = try child.readLine()
        let prefix = "Listening on port "
        port = try #require(line.hasPrefix(prefix) ? UInt16(line.dropFirst(prefix.count)) : nil, "\(line)")
    }

    /// Starts `echo` with just these arguments; the one of `CALLBACKSERVER_ECHO` if that is set, so that the release
    /// build can be measured.
    static func start(_ arguments: [String], _ descriptorLimit: Int? = nil) throws -> ChildProcess {
        let program =
            try getenv("CALLBACKSERVER_ECHO").map { String(cString: $0) } ?? ChildProcess.pathOfBuiltProduct("echo")
        return try ChildProcess(program, arguments, descriptorLimit: descriptorLimit)
    }

    func client() throws -> PlainClient {
        try PlainClient(port: port)
    }

    /// Ends the server with SIGTERM, once its clients have gone.
    func stop() throws {
        child.signal(15)
        #expect(try child.waitForExit() == .exited(0))
    }
}
