import Glibc
import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel

@Suite(.timeLimit(.minutes(20)), .onOwnThread) struct `State of a connection` {
    /// Lifecycle, output, and the inputs that go with them.
    private static let legal = names(
        """
        connecting open flowing paused held
        connecting layered layered paused held
        connecting ending flowing layered paused held
        connecting ended flowing paused
        starting open flowing paused held
        starting layered layered paused held
        starting ending flowing layered paused held
        starting ended flowing layered paused
        open open flowing paused held ended
        open layered layered paused held ended
        open ending flowing layered paused held ended
        open ended flowing layered paused ended
        flushing closed closed
        readingOut closed flowing layered paused
        closing closed closed
        closed closed closed
        """)

    private static func names(_ table: String) -> Set<String> {
        var names: Set<String> = []
        for line in table.split(separator: "\n") {
            let words = line.split(separator: " ")
            for input in words.dropFirst(2) { names.insert("\(words[0]) \(words[1]) \(input)") }
        }
        return names
    }

    @Test func `is legal as the table says`() {
        var found: Set<String> = []
        for lifecycle in (0...6 as ClosedRange<UInt8>).compactMap(Connection.Lifecycle.init) {
            for output in (0...4 as ClosedRange<UInt8>).compactMap(Connection.Output.init) {
                for input in (0...5 as ClosedRange<UInt8>).compactMap(Connection.Input.init) {
                    guard Connection.isLegal(lifecycle, output, input) else { continue }
                    found.insert("\(lifecycle) \(output) \(input)")
                }
            }
        }
        #expect(found == Self.legal)
        #expect(found.count == 48)
    }

    /// An illegal one would trap.
    @Test func `is each legal one sooner or later`() throws {
        var reached: Set<String> = []
        for seed in 1...2_000 as ClosedRange<UInt64> { reached.formUnion(try Walk(seed).states()) }
        #expect(Self.legal.subtracting(reached) == [])
        #expect(reached.subtracting(Self.legal) == [])
    }
}

/// Random calls to one connection, and what an engine may tell it meanwhile.
private struct Walk {
    private let random: [UInt8]
    private let driver = ScriptedLoop()
    private let loop: EventLoop
    private let connection: Connection
    private var layer: PassingLayer?
    private let stream: ScriptedStream
    /// One that makes an overload together with the walker.
    private let other: (connection: Connection, stream: ScriptedStream)

    init(_ seed: UInt64) throws {
        random = pseudoRandomBytes(count: 24, seed: seed)
        var options = EventLoop.Options()
        options.maxQueuedBytes = 1 << 20
        loop = EventLoop(driver: driver, options: options)
        other = driver.connect()
        var connecting = EventLoop.ConnectOptions()
        connecting.connection.allowsHalfOpen = seed.isMultiple(of: 2)
        switch seed / 2 % 3 {
        case 0:
            stream = ScriptedStream(driver)
            connection = Connection(
                core: loop.core, driver: stream, listener: nil, remoteAddress: .unnamed,
                options: .init(connecting.connection))
            // As an adopted one.
            connection.tellOpened()
        case let kind:
            let address = try SocketAddress.ipv4("127.0.0.1", port: 1)
            driver.outcomes[address] = kind == 1 ? .connected : .inProgress
            connection = try loop.connect(to: address, options: connecting)
            stream = try #require(driver.made.last).stream
        }
        if seed / 6 % 3 == 0 {
            let layer = PassingLayer()
            connection.insert(layer)
            self.layer = layer
        }
    }

    func states() -> Set<String> {
        var states: Set<String> = [state]
        connection.onOpen = { [stream, random] connection in
            guard random[1] < 128 else { return }
            connection.end()
            // As an engine that sends FIN at once.
            if stream.isFinished, stream.queued == 0, connection.output == .ending { stream.outputEnded(nil) }
            states.insert("\(connection.lifecycle) \(connection.output) \(connection.input)")
        }
        for step in random {
            if step < 128 { call(step % 8) } else { tell(step % 6) }
            states.insert(state)
        }
        driver.turn()
        states.insert(state)
        return states
    }

    private var state: String { "\(connection.lifecycle) \(connection.output) \(connection.input)" }

    private func call(_ step: UInt8) {
        switch step {
        case 0: connection.write("x") { _ in }
        case 1: fill(connection, stream, 700 << 10)
        case 2: connection.pause()
        case 3: connection.resume()
        case 4: connection.end()
        case 5: connection.close()
        case 6: if random[0] < 64 { connection.reset() }
        default: fill(other.connection, other.stream, 300 << 10)
        }
    }

    private func fill(_ connection: Connection, _ stream: ScriptedStream, _ count: Int) {
        guard connection.output.isOpen else { return }
        stream.queued = count
        connection.write([UInt8](repeating: 0, count: count))
    }

    private func tell(_ step: UInt8) {
        guard !stream.isClosed else { return driver.turn() }
        switch step {
        case 0 where stream.isReading: stream.reachedEnd()
        case 1 where stream.isFinished && stream.queued == 0 && connection.output == .ending: stream.outputEnded(nil)
        case 2 where connection.lifecycle == .connecting && layer?.phase != .handshaking: stream.opened()
        case 2 where connection.lifecycle == .open && stream.queued == 0:
            stream.failure = ECONNRESET
            connection.write("x")
        case 3 where stream.queued > 0:
            stream.queued = 0
            stream.queueShrank(to: 0)
        case 4: driver.turn()
        case 5: layer?.shakeHands()
        default: break
        }
    }
}

/// A layer that changes nothing. Its handshake is done when the test says so.
private final class PassingLayer: ConnectionLayer {
    private var queued = 0

    func shakeHands() { if phase == .handshaking { opened() } }

    override func begin() {}
    override func received(_ bytes: Span<UInt8>, _ connection: Connection) { deliver(bytes, connection) }
    override func reachedEnd() { if phase == .handshaking { truncated() } else { ended() } }
    override func seal(_ bytes: Span<UInt8>, _ connection: Connection) { handOver(bytes, connection) }
    override func sealEnd() { if let connection { handOver([0].span, connection) } }
    override var sealedByteCount: Int { queued }
    override func handedOver(_ bytes: Span<UInt8>, queued: Int) { self.queued = queued }
    override func driverQueueChanged(to count: Int) { queued = count }
}
