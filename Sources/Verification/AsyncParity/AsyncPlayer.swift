internal import CallbackAsync
internal import CallbackModel
internal import ParityKit

/// Plays a script on one connection, in one task.
final class AsyncPlayer {
    private let script: Script
    private let connection: Connection
    private let observer: ConnectionObserver
    private let stage: Stage
    private var received = 0
    /// Whether this side has said that it writes nothing more.
    private var isOutputOver = false

    init(_ script: Script, _ connection: Connection, _ observer: ConnectionObserver, _ stage: Stage) {
        self.script = script
        self.connection = connection
        self.observer = observer
        self.stage = stage
        observer.mayLeaveBytes = true
    }

    /// From the connection's beginning, which the script knows as `first`, to behind its end.
    nonisolated(nonsending) func play(first: Script.Trigger) async {
        var thrown: IOError?
        do {
            try await react(to: first)
            for try await bytes in connection.bytes { try await receive(bytes) }
            observer.ended()
            try await react(to: .end)
        } catch let error as IOError {
            thrown = error
        } catch {
            observer.report("a task threw \(error)")
        }
        do {
            let reason = try await connection.closed()
            if let thrown, !thrown.tells(reason) { observer.report("a task threw \(thrown), but it closed: \(reason)") }
            isOutputOver = true
            observer.callback("a task behind the end") { observer.closed(connection, reason) }
            try await react(to: .close)
        } catch {
            observer.report("a task behind the end threw \(error)")
        }
    }

    nonisolated(nonsending) private func receive(_ bytes: [UInt8]) async throws {
        let start = received
        received += bytes.count
        // Peers may wait for it while this task waits for them to read.
        observer.callback("a task that got bytes") { observer.received(bytes.span) }
        switch script.response {
        case .nothing: break
        case .echo: if !isOutputOver { try await connection.send(bytes) }
        case .echoWithoutPausing: if !isOutputOver { connection.write(bytes) }
        case .part(let period):
            let part = bytes.indices.filter { (start + $0).isMultiple(of: period) }.map { bytes[$0] }
            if !part.isEmpty, !isOutputOver { try await connection.send(part) }
        }
        for reaction in script.reactions {
            guard case .received(let count) = reaction.trigger, start < count, count <= received else { continue }
            try await act(reaction.actions)
        }
    }

    nonisolated(nonsending) private func react(to trigger: Script.Trigger) async throws {
        for reaction in script.reactions where reaction.trigger == trigger { try await act(reaction.actions) }
        observer.callback("a task") {}
    }

    nonisolated(nonsending) private func act(_ actions: [Script.Action]) async throws {
        for action in actions {
            switch action {
            case .write(let payload): try await send(payload.bytes)
            case .writeEach(let payload, let times): for _ in 0..<times { try await send(payload.bytes) }
            case .writePieces(let pieces): for piece in pieces { try await send(piece.bytes) }
            case .end: end { $0.end() }
            case .close: end { $0.close() }
            case .reset: end { $0.reset() }
            case .finish(let milliseconds): end { $0.finish(within: .milliseconds(milliseconds)) }
            case .note(let text): stage.note(text)
            default: observer.report("a task cannot do \(action)")
            }
        }
    }

    private func end(_ body: (Connection) -> Void) {
        isOutputOver = true
        body(connection)
    }

    /// Clause 8: what this side sends behind its end is refused.
    nonisolated(nonsending) private func send(_ bytes: [UInt8]) async throws {
        do {
            try await connection.send(bytes)
            if isOutputOver { observer.report("clause 8: a send after the end did not throw") }
        } catch  where isOutputOver {}
    }
}

extension IOError {
    /// Whether this is what a task is thrown when a connection closes for `reason`.
    fileprivate func tells(_ reason: CloseReason) -> Bool {
        switch reason {
        case .failed(let error): name == error.name
        case .peerReset: name == "ECONNRESET"
        case .truncated: name == "EPROTO"
        case .peerClosed: name == "EPIPE"
        case .timedOut, .drainDeadline: name == "ETIMEDOUT"
        case .shed: name == "ENOBUFS"
        case .localClose, .localReset: name == "ECANCELED"
        }
    }
}
