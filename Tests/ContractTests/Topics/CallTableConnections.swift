import CallbackServer
import Glibc
import TestSupport
import Testing

// The states of a connection, and all that may be asked of it.

/// A connection whose every callback is written down.
private func follow(_ cell: Cell, _ connection: Connection) -> Connection {
    connection.onOpen = { _ in cell.note("onOpen") }
    connection.onData = { _, bytes in cell.note("onData \(roughly(bytes.count))") }
    connection.onEnd = { _ in cell.note("onEnd") }
    connection.onDrain = { _ in cell.note("onDrain") }
    connection.onTimeout = { _, kind in
        cell.note("onTimeout \(kind)")
        return .keep
    }
    connection.onClose = { _, reason in cell.note("onClose \(brief(reason))") }
    return connection
}

/// A connection of this side's making to a plain listener, and its peer.
private func client(
    _ cell: Cell, _ options: Connection.Options = .init(), prepare: (Connection) -> Void = { _ in }
) throws -> (Connection, PlainClient) {
    let listener = cell.keep(try PlainListener())
    var connecting = EventLoop.ConnectOptions()
    connecting.connection = options
    let address = try SocketAddress.ipv4("127.0.0.1", port: Int(listener.port))
    let connection = follow(cell, try cell.theLoop.connect(to: address, options: connecting))
    prepare(connection)
    return (connection, cell.peer(try listener.accept()))
}

/// One end of a pair of Unix sockets, and the other.
private func pair(_ cell: Cell, _ options: Connection.Options = .init()) throws -> (Connection, PlainClient) {
    let (mine, theirs) = try PlainClient.pair()
    return (follow(cell, try cell.theLoop.adopt(connected: mine, options: options)), cell.peer(theirs))
}

typealias MakeConnection = (Cell, Connection.Options) throws -> (Connection, PlainClient)

/// An open TCP connection.
func openTCP(_ cell: Cell, _ options: Connection.Options) throws -> (Connection, PlainClient) {
    let (connection, peer) = try client(cell, options)
    var isOpen = false
    connection.onOpen = { _ in isOpen = true }
    try cell.turn { isOpen }
    return (connection, peer)
}

/// An open Unix connection, which was adopted.
func openUnix(_ cell: Cell, _ options: Connection.Options) throws -> (Connection, PlainClient) {
    let made = try pair(cell, options)
    try cell.settle()
    return made
}

private func halfOpen() -> Connection.Options {
    var options = Connection.Options()
    options.allowsHalfOpen = true
    return options
}

private typealias Prepare = (Cell, Connection, PlainClient) throws -> Void

private func resting(
    _ make: @escaping MakeConnection, _ name: String, _ options: Connection.Options, _ prepare: @escaping Prepare
) -> CallState<Connection> {
    CallState(name) { cell, act in
        let (connection, peer) = try make(cell, options)
        try prepare(cell, connection, peer)
        act(connection)
    }
}

/// States outside of callbacks.
func restingStates(_ make: @escaping MakeConnection) -> [CallState<Connection>] {
    func state(_ name: String, _ options: Connection.Options = .init(), _ prepare: @escaping Prepare)
        -> CallState<Connection>
    {
        resting(make, name, options, prepare)
    }
    return [
        state("open") { _, _, _ in },
        state("paused, with input") { cell, connection, peer in
            connection.pause()
            try peer.send("abc")
            try cell.settle()
        },
        state("with input") { _, _, peer in try peer.send("abc") },
        state("the peer has ended", halfOpen()) { cell, _, peer in
            try peer.halfClose()
            try cell.settle()
        },
        state("ended") { cell, connection, _ in
            connection.end()
            try cell.settle()
        },
        state("ended, in the same turn") { _, connection, _ in connection.end() },
        state("with a queue") { cell, connection, _ in
            connection.fillQueue(to: 200_000)
            try cell.settle()
        },
        state("ended, with a queue") { _, connection, _ in
            connection.fillQueue(to: 200_000)
            connection.end()
        },
        state("closing, with a queue") { cell, connection, _ in
            connection.fillQueue(to: 200_000)
            connection.close()
            try cell.settle()
        },
        state("closing") { _, connection, _ in connection.close() },
        state("reset") { _, connection, _ in connection.reset() },
        state("closed") { cell, connection, _ in
            connection.close()
            try cell.settle()
        },
        state("closed by the peer") { cell, _, peer in
            peer.close()
            try cell.settle()
        },
        state("piped") { cell, connection, _ in
            connection.pipe(to: cell.keep(try openUnix(cell, .init())).0)
            try cell.settle()
        },
        state("target of a pipe") { cell, connection, _ in
            cell.keep(try openUnix(cell, .init())).0.pipe(to: connection)
            try cell.settle()
        },
        state("after its loop") { cell, _, _ in cell.dropLoop() },
    ]
}

/// States that only a connection of this side's making has.
func connectingStates() -> [CallState<Connection>] {
    [
        CallState("connecting") { cell, act in
            _ = try client(cell) { connection in act(connection) }
        },
        CallState("refused, in the same turn") { cell, act in
            let address = try SocketAddress.unix(abstract: "nobody listens to this name")
            act(follow(cell, try cell.theLoop.connect(to: address)))
        },
        CallState("refused") { cell, act in
            let address = try SocketAddress.unix(abstract: "nobody listens to this name")
            let connection = follow(cell, try cell.theLoop.connect(to: address))
            try cell.settle()
            act(connection)
        },
        CallState("reset by the peer") { cell, act in
            let (connection, peer) = try openTCP(cell, .init())
            try peer.reset()
            try cell.settle()
            act(connection)
        },
        CallState("inside onOpen") { cell, act in
            let (connection, _) = try client(cell)
            connection.onOpen = act
            try cell.settle()
        },
    ]
}

private func soonIdle() -> Connection.Options {
    var options = Connection.Options()
    options.timeouts.idle = .milliseconds(5)
    return options
}

private func readAway(_ peer: PlainClient) {
    var part = [UInt8](repeating: 0, count: 65_536)
    _ = recv(peer.descriptor, &part, part.count, Int32(MSG_DONTWAIT))
}

/// States inside a callback.
func callbackStates(_ make: @escaping MakeConnection) -> [CallState<Connection>] {
    func state(
        _ name: String, _ options: Connection.Options = .init(),
        _ prepare: @escaping (Cell, Connection, PlainClient, @escaping (Connection) -> Void) throws -> Void
    ) -> CallState<Connection> {
        CallState(name) { cell, act in
            let (connection, peer) = try make(cell, options)
            try prepare(cell, connection, peer, act)
            try cell.settle()
        }
    }
    return [
        state("inside onData") { _, connection, peer, act in
            connection.onData = { connection, _ in act(connection) }
            try peer.send("abc")
        },
        state("inside onEnd") { _, connection, peer, act in
            connection.onEnd = act
            try peer.halfClose()
        },
        state("inside onEnd, half open", halfOpen()) { _, connection, peer, act in
            connection.onEnd = act
            try peer.halfClose()
        },
        state("inside onDrain") { cell, connection, peer, act in
            var isDrained = false
            connection.onDrain = {
                isDrained = true
                act($0)
            }
            connection.fillQueue(to: 200_000)
            try cell.turn {
                readAway(peer)
                return isDrained
            }
        },
        state("inside onTimeout", soonIdle()) { cell, connection, _, act in
            var isPassed = false
            connection.onTimeout = { connection, _ in
                isPassed = true
                var options = connection.options
                options.timeouts.idle = nil
                connection.options = options
                act(connection)
                return .keep
            }
            try cell.turn { isPassed }
        },
        state("inside onClose") { _, connection, _, act in
            connection.onClose = { connection, _ in act(connection) }
            connection.close()
        },
        state("inside a completion") { _, connection, _, act in
            connection.write("xyz") { [unowned connection] _ in act(connection) }
        },
        state("inside a timer") { cell, connection, _, act in
            try cell.theLoop.schedule(after: .zero) { _ in act(connection) }
        },
    ]
}

/// Every property and call of a connection.
var connectionCalls: [PublicCall<Connection>] {
    [
        .value("bytesRead") { roughly($0.bytesRead) }, .value("bytesWritten") { roughly($0.bytesWritten) },
        .value("bytesUnsent") { roughly($0.bytesUnsent) },
        .value("bufferedByteCount") { roughly($0.bufferedByteCount) },
        .value("age") { $0.age >= .zero }, .value("descriptor") { $0.descriptor >= 0 },
        .value("localAddress") { kind(of: $0.localAddress) }, .value("remoteAddress") { kind(of: $0.remoteAddress) },
        .value("options") { "\($0.options.highWaterMark) \($0.options.allowsHalfOpen)" },
        .void("options.highWaterMark = 1") { connection in
            var options = connection.options
            (options.highWaterMark, options.lowWaterMark) = (1, 0)
            connection.options = options
        },
        .value("peerCredentials") { $0.peerCredentials.map { $0.processID == getpid() } ?? false },
        .value("onOpen, onData, onEnd, onDrain, onTimeout, onClose") { connection in
            [
                connection.onOpen != nil, connection.onData != nil, connection.onEnd != nil, connection.onDrain != nil,
                connection.onTimeout != nil, connection.onClose != nil,
            ].map { $0 ? "1" : "0" }.joined()
        },
        .void("onData = nil") { $0.onData = nil },
        PublicCall("task") { cell, connection in
            connection.task { cell.note("task \(Task.isCancelled)") }
            return "returns"
        },
        PublicCall("onLines, onUnfinishedFrame") { cell, connection in
            connection.onUnfinishedFrame = { _, bytes in cell.note("unfinished \(roughly(bytes.count))") }
            connection.onLines { _, bytes in cell.note("line \(roughly(bytes.count))") }
            return "\(connection.onUnfinishedFrame != nil)"
        },
        PublicCall("onFrames") { cell, connection in
            connection.onFrames(limit: 2) { _, _ in .needMore }
            return "returns"
        },
        PublicCall("onMessages") { cell, connection in
            connection.onMessages(lengthPrefix: .uint16) { _, bytes in cell.note("message \(roughly(bytes.count))") }
            return "returns"
        },
        PublicCall("onData, onEnd, onDrain, onClose anew") { cell, connection in
            connection.onData = { _, bytes in cell.note("new onData \(roughly(bytes.count))") }
            connection.onEnd = { _ in cell.note("new onEnd") }
            connection.onDrain = { _ in cell.note("new onDrain") }
            connection.onClose = { _, reason in cell.note("new onClose \(brief(reason))") }
            return "returns"
        },
        PublicCall("loop") { cell, connection in cell.loop.map { "\(connection.loop === $0)" } ?? "has no other" },
        .value("listener") { $0.listener != nil },
        PublicCall("schedule") { cell, connection in
            connection.schedule(after: .zero) { _, _ in cell.note("timer") }
            return "returns"
        },
        PublicCall("schedule, end") { cell, connection in
            connection.schedule(after: .zero, repeating: .seconds(3_600)) { _, timer in cell.note("again") }
            connection.end()
            return "returns"
        },
        .value("write a part of an array") { $0.write(Array("array".utf8)[1..<3]) },
        .value("write an array") { $0.write(Array("array".utf8)) }, .value("write nothing") { $0.write([UInt8]()) },
        .value("write a span") { connection in
            let bytes = Array("span".utf8)
            return connection.write(bytes.span)
        },
        .value("write a string") { (connection: Connection) in connection.write(String("string")) },
        .value("write a static string") { $0.write("static" as StaticString) },
        .value("write pieces") { $0.write([Array("one".utf8), [], Array("two".utf8)]) },
        PublicCall("write with a completion") { cell, connection in
            "\(connection.write("whole") { cell.note("completion \(brief($0))") })"
        },
        PublicCall("write nothing with a completion") { cell, connection in
            "\(connection.write([UInt8]()) { cell.note("completion \(brief($0))") })"
        },
        .void("finish") { $0.finish(within: .seconds(60)) },
        .void("end") { $0.end() }, .void("close") { $0.close() }, .void("reset") { $0.reset() },
        .void("end, close, reset") { connection in
            connection.end()
            connection.close()
            connection.reset()
        },
        .void("pause") { $0.pause() }, .void("resume") { $0.resume() },
        .void("pause, resume") { connection in
            connection.pause()
            connection.resume()
        },
        PublicCall("pipe") { cell, connection in
            guard let loop = cell.loop else { return "has no other" }
            let (mine, theirs) = try PlainClient.pair()
            let other = cell.keep(try loop.adopt(connected: mine))
            _ = cell.peer(theirs)
            connection.pipe(to: other)
            return "returns"
        },
    ]
}
