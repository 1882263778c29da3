import Glibc
import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel

/// RFC 8305 with a resolver, a clock and a kernel that do what the test says.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `The race of a host's addresses` {
    private let driver = ScriptedLoop()
    private let loop: EventLoop
    private let six1: SocketAddress
    private let six2: SocketAddress
    private let four1: SocketAddress
    private let four2: SocketAddress

    init() throws {
        loop = EventLoop(driver: driver)
        driver.takeOverResolver()
        // Documentation addresses (RFC 3849, RFC 5737); nothing is ever sent to them.
        six1 = try .ipv6("2001:db8::1", port: 80)
        six2 = try .ipv6("2001:db8::2", port: 80)
        four1 = try .ipv4("192.0.2.1", port: 80)
        four2 = try .ipv4("192.0.2.2", port: 80)
    }

    /// A connection to a host, and what it tells.
    private final class Race {
        let connection: Connection
        var events: [String] = []
        var reason: CloseReason?

        init(_ loop: EventLoop, _ options: EventLoop.ConnectOptions = .init()) throws {
            connection = try loop.connect(host: "host", port: 80, options: options)
            connection.onOpen = { _ in self.events.append("open") }
            connection.onData = { _, bytes in self.events.append("data \(bytes.count)") }
            connection.onTimeout = { _, kind in
                self.events.append("timeout \(kind)")
                return .close
            }
            connection.onClose = { _, reason in
                self.events.append("close")
                self.reason = reason
            }
        }
    }

    private var addresses: [SocketAddress] { driver.made.map(\.address) }
    private func stream(_ index: Int, sourceLocation: SourceLocation = #_sourceLocation) -> ScriptedStream {
        if index < driver.made.count { return driver.made[index].stream }
        Issue.record("attempt \(index) was not begun", sourceLocation: sourceLocation)
        return ScriptedStream(driver)
    }
    private func refusal(_ address: SocketAddress) -> IOError {
        IOError(call: "connect", errno: ECONNREFUSED, address: address)
    }

    /// Tells a connect as refused, and lets it close.
    private func refuse(_ index: Int) {
        stream(index).connectFailed(IOError(call: "connect", errno: ECONNREFUSED))
        driver.turn()
    }

    @Test func `families take turns, beginning with the resolver's first`() throws {
        let (a, b, c) = (six1, six2, try SocketAddress.ipv6("2001:db8::3", port: 80))
        #expect(interleaved([]) == [])
        #expect(interleaved([a]) == [a])
        #expect(interleaved([a, b, c, four1]) == [a, four1, b, c])
        #expect(interleaved([four1, four2, a]) == [four1, a, four2])
        #expect(interleaved([four1, a, b, c]) == [four1, a, b, c])
        #expect(interleaved([a, b, four1, four2]) == [a, four1, b, four2])
    }

    @Test func `large arrays go to the winner as they are, and what waited for it too`() throws {
        let race = try Race(loop)
        race.connection.write([UInt8](repeating: 1, count: 2_000))
        driver.answer(.success([six1]))
        stream(0).opened()
        race.connection.write([UInt8](repeating: 2, count: 3_000))
        #expect(stream(0).kept.map(\.count) == [2_000, 3_000])
        race.connection.reset()
        driver.turn()
    }

    @Test func `the first that answers is kept, and no other is tried`() throws {
        let race = try Race(loop)
        driver.answer(.success([six1, six2, four1]))
        #expect(addresses == [six1])
        stream(0).opened()
        driver.advance(to: 10_000)
        #expect(addresses == [six1])
        #expect(race.events == ["open"] && race.connection.remoteAddress == six1)
        #expect(stream(0).isReading && race.connection.descriptor == 3)
        stream(0).received([1, 2].span)
        #expect(race.events == ["open", "data 2"])
        race.connection.reset()
        driver.turn()
        #expect(race.events == ["open", "data 2", "close"] && race.reason == .localReset)
        #expect(stream(0).isReset)
    }

    @Test func `after a refusal the next is tried at once`() throws {
        let race = try Race(loop)
        driver.answer(.success([six1, six2, four1]))
        refuse(0)
        #expect(addresses == [six1, four1] && race.events == [])
        refuse(1)
        #expect(addresses == [six1, four1, six2])
        stream(2).opened()
        #expect(race.events == ["open"] && race.connection.remoteAddress == six2)
        finish(race)
    }

    @Test func `a refusal that connect itself tells counts as well`() throws {
        driver.outcomes[six1] = .failed(refusal(six1))
        driver.outcomes[four1] = .connected
        let race = try Race(loop)
        driver.answer(.success([six1, four1]))
        driver.turn()
        #expect(addresses == [six1, four1])
        driver.turn()
        #expect(race.events == ["open"] && race.connection.remoteAddress == four1)
        finish(race)
    }

    @Test func `one that hangs has its head start and no more`() throws {
        let race = try Race(loop)
        driver.answer(.success([six1, four1, six2]))
        driver.advance(to: 1_249)
        #expect(addresses == [six1])
        driver.advance(to: 1_251)
        #expect(addresses == [six1, four1])
        driver.advance(to: 1_500)
        #expect(addresses == [six1, four1])
        driver.advance(to: 1_502)
        #expect(addresses == [six1, four1, six2])
        #expect(race.events == [])
        // The one in the middle answers: the others go, and only they.
        stream(1).opened()
        #expect(stream(0).isReset && stream(2).isReset && !stream(1).isClosed)
        // Too late, while it closes.
        stream(0).opened()
        driver.turn()
        #expect(race.events == ["open"] && race.connection.remoteAddress == four1)
        driver.advance(to: 20_000)
        #expect(race.events == ["open"] && !stream(1).isClosed)
        finish(race)
    }

    @Test func `the head start is as long as was asked for`() throws {
        var options = EventLoop.ConnectOptions()
        options.attemptDelay = .milliseconds(10)
        let race = try Race(loop, options)
        driver.answer(.success([six1, four1]))
        driver.advance(to: 1_011)
        #expect(addresses == [six1, four1])
        race.connection.reset()
        driver.turn()
    }

    @Test func `a refusal while another hangs gives the next its turn, and a new head start`() throws {
        let race = try Race(loop)
        driver.answer(.success([six1, four1, six2, four2]))
        driver.advance(to: 1_251)
        refuse(1)
        #expect(addresses == [six1, four1, six2])
        driver.advance(to: 1_500)
        #expect(addresses.count == 3)
        driver.advance(to: 1_502)
        #expect(addresses.count == 4)
        for index in [0, 2, 3] { refuse(index) }
        driver.turn()
        #expect(race.events == ["close"] && race.reason == .failed(refusal(four2)))
    }

    @Test func `if all fail the last failure is the reason, with its address`() throws {
        let race = try Race(loop)
        var completions: [WriteResult] = []
        race.connection.write("for nobody") { completions.append($0) }
        driver.answer(.success([six1, four1]))
        refuse(0)
        #expect(race.events == [])
        refuse(1)
        driver.turn()
        let reason = CloseReason.failed(refusal(four1))
        #expect(race.events == ["close"] && race.reason == reason)
        #expect(completions == [.failed(reason)] && race.connection.bytesUnsent == 10)
        #expect(race.connection.remoteAddress == .unnamed)
    }

    @Test func `addresses for which there is no socket are passed over`() throws {
        driver.unmakeable[six1] = EAFNOSUPPORT
        let race = try Race(loop)
        driver.answer(.success([six1, four1]))
        #expect(addresses == [four1])
        stream(0).opened()
        #expect(race.events == ["open"])
        finish(race)
        let other = try Race(loop)
        driver.unmakeable[four1] = EMFILE
        driver.answer(.success([six1, four1]))
        driver.turn()
        driver.turn()
        #expect(other.reason == .failed(IOError(call: "socket", errno: EMFILE, address: four1)))
    }

    @Test func `a resolver's failure is the reason`() throws {
        let race = try Race(loop)
        let error = IOError(call: "getaddrinfo", errno: ENOENT, detail: "host \"host\"")
        driver.answer(.failure(error))
        #expect(race.events == [], "nothing inside the resolver's answer")
        driver.turn()
        #expect(race.reason == .failed(error))
    }

    @Test func `only the family of the local address is tried`() throws {
        var options = EventLoop.ConnectOptions()
        options.localAddress = try .ipv4("127.0.0.1", port: 0)
        let race = try Race(loop, options)
        driver.answer(.success([six1, four1, six2, four2]))
        driver.advance(to: 2_000)
        driver.advance(to: 3_000)
        #expect(addresses == [four1, four2])
        race.connection.reset()
        let other = try Race(loop, options)
        driver.answer(.success([six1, six2]))
        driver.turn()
        driver.turn()
        #expect(addresses == [four1, four2])
        guard case .failed(let error) = other.reason else { return #expect(other.reason == nil) }
        #expect(error.call == "connect" && error.errno == EADDRNOTAVAIL)
    }

    @Test func `what was written before goes to the winner alone, once, in order`() throws {
        let race = try Race(loop)
        var completions: [WriteResult] = []
        race.connection.write("one ") { completions.append($0) }
        driver.answer(.success([six1, four1]))
        race.connection.write("two ") { completions.append($0) }
        driver.advance(to: 1_251)
        race.connection.write("three") { completions.append($0) }
        race.connection.end()
        #expect(race.connection.bufferedByteCount == 13)
        stream(1).opened()
        driver.turn()
        #expect(stream(0).sent == [])
        #expect(stream(1).sent.flatMap { $0 } == Array("one two three".utf8) && stream(1).isFinished)
        #expect(completions == [.sent, .sent, .sent])
        #expect(race.connection.bytesWritten == 13 && race.connection.bufferedByteCount == 0)
        finish(race)
    }

    @Test func `an attempt that the kernel has decided puts the time-out off until the loop has looked`() throws {
        var options = EventLoop.ConnectOptions()
        options.connection.timeouts.connect = .seconds(1)
        let race = try Race(loop, options)
        driver.answer(.success([six1, four1]))
        driver.advance(to: 1_251)
        stream(1).room = true
        driver.advance(to: 2_001)
        #expect(race.reason == nil)
        stream(1).room = false
        stream(1).opened()
        for time in 2_002...2_200 as ClosedRange<UInt64> { driver.advance(to: time) }
        #expect(race.events == ["open"])
        finish(race)
    }

    enum Act: CaseIterable { case close, reset, closeAfterWrite, timeout, endThenTimeout }

    @Test(arguments: Act.allCases)
    func `an end by the user or the clock ends all attempts`(act: Act) throws {
        var options = EventLoop.ConnectOptions()
        options.connection.timeouts.connect = .seconds(1)
        options.connection.timeouts.close = .milliseconds(500)
        let race = try Race(loop, options)
        driver.answer(.success([six1, four1, six2]))
        driver.advance(to: 1_251)
        #expect(addresses.count == 2)
        let connection = race.connection
        if act == .closeAfterWrite { connection.write("x") }
        switch act {
        case .close, .closeAfterWrite: connection.close()
        case .reset: connection.reset()
        case .timeout: break
        case .endThenTimeout: connection.end()
        }
        for time in 1_252...2_001 as ClosedRange<UInt64> { driver.advance(to: time) }
        driver.turn()
        let expected: CloseReason =
            switch act {
            case .close: .localClose
            case .reset: .localReset
            case .closeAfterWrite: .timedOut(.close)
            case .timeout, .endThenTimeout: .timedOut(.connect)
            }
        #expect(race.reason == expected)
        #expect(race.events == (expected == .timedOut(.connect) ? ["timeout connect"] : []) + ["close"])
        for (_, stream) in driver.made { #expect(stream.isClosed && stream.isReset) }
        // Nothing of it is left.
        let count = driver.made.count
        driver.advance(to: 100_000)
        #expect(driver.made.count == count)
    }

    @Test func `a close after a write waits for the winner, sends, and closes without onOpen`() throws {
        let race = try Race(loop)
        race.connection.write("goodbye")
        race.connection.close()
        driver.answer(.success([six1]))
        stream(0).opened()
        driver.turn()
        #expect(stream(0).sent == [Array("goodbye".utf8)])
        #expect(race.events == ["close"] && race.reason == .localClose)
        #expect(stream(0).isClosed && !stream(0).isReset)
    }

    @Test func `an answer that comes too late tries nothing`() throws {
        let race = try Race(loop)
        driver.waitUntilAsked()
        race.connection.close()
        driver.turn()
        #expect(race.events == ["close"] && race.reason == .localClose)
        driver.answer(.success([six1]))
        #expect(addresses == [])
    }

    @Test func `a winner that has been reset since is told as such`() throws {
        let race = try Race(loop)
        race.connection.write("lost")
        driver.answer(.success([six1]))
        stream(0).failure = ECONNRESET
        stream(0).opened()
        // What it had sent before is still read.
        #expect(race.events == ["open"] && stream(0).isReading)
        stream(0).readFailed(IOError(call: "recv", errno: ECONNRESET))
        driver.turn()
        #expect(race.events == ["open", "close"] && race.reason == .peerReset)
        #expect(race.connection.bytesUnsent == 4)
    }

    @Test func `nothing is held once it is decided`() throws {
        weak var connection: Connection?
        weak var winner: ScriptedStream?
        do {
            let race = try Race(loop)
            connection = race.connection
            driver.answer(.success([six1, four1]))
            driver.advance(to: 1_251)
            stream(0).opened()
            winner = stream(0)
            finish(race)
        }
        driver.forgetMade()
        driver.turn()
        #expect(connection == nil && winner == nil)
    }

    private func finish(_ race: Race) {
        race.connection.reset()
        driver.turn()
        #expect(race.events.last == "close")
        for (_, stream) in driver.made { #expect(stream.isClosed) }
    }
}
