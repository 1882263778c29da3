import CallbackAsync
import CallbackServer
import Glibc
import ServerTestSupport
import TestSupport
import Testing

extension EventLoop {
    /// Runs the loop until a task of it with this body has ended; throws what the body has thrown.
    func finish(
        sourceLocation: SourceLocation = #_sourceLocation, _ body: @escaping () async throws -> Void
    ) throws {
        var result: Result<Void, any Error>?
        let task = task {
            do { result = .success(try await body()) } catch { result = .failure(error) }
        }
        try run(until: { result != nil }, sourceLocation: sourceLocation)
        task.cancel()
        try result?.get()
    }

    /// Listens on 127.0.0.1, on a port of the kernel's choice.
    func listenSomewhere(options: Listener.Options = .init()) throws -> AsyncListener {
        try listen(on: .ipv4("127.0.0.1", port: 0), options: options)
    }

    /// A few turns that wait for nothing: whatever could be delivered has been.
    func settle() throws {
        for _ in 0..<30 { try run(.noWait) }
    }
}

extension AsyncListener {
    var port: UInt16 { UInt16(localAddress.port ?? 0) }
}

/// Serves until the peer has ended: every byte goes back.
func echo(_ connection: Connection) async throws {
    for try await bytes in connection.bytes { try await connection.send(bytes) }
}

/// The error that `body` throws, in a short form: `ECONNRESET`, `cancelled`; `none` without one.
func told(_ body: () async throws -> Void) async -> String {
    do {
        try await body()
        return "none"
    } catch let error as IOError {
        return error.name
    } catch is CancellationError {
        return "cancelled"
    } catch {
        return "\(error)"
    }
}

/// A connection that tasks of `loop` serve, and its peer on the test's own thread.
func pair(
    _ loop: EventLoop, options: Connection.Options = .init(), receiveBuffer: Int32? = nil
) throws -> (connection: Connection, peer: PlainClient) {
    var listening = Listener.Options()
    listening.connection = options
    let listener = try loop.listenSomewhere(options: listening)
    let peer = try PlainClient(port: listener.port, receiveBuffer: receiveBuffer)
    var found: Connection?
    try loop.finish {
        for try await connection in listener.connections {
            found = connection
            break
        }
    }
    listener.close()
    return (try #require(found), peer)
}
