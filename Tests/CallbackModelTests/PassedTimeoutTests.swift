import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel

/// What a passed time-out is compared with before it ends a connection.
@Suite struct `Passed time-outs` {
    private let driver = ScriptedLoop()
    private let loop: EventLoop

    init() { loop = EventLoop(driver: driver) }

    /// The time at which the connection is closed; nothing if it stays open until `end`.
    private func closing(
        of connection: Connection, until end: UInt64, each step: (UInt64) -> Void = { _ in }
    ) -> UInt64? {
        for time in driver.milliseconds + 1...end {
            step(time)
            driver.advance(to: time)
            if connection.cause != nil { return time }
        }
        return nil
    }

    private static let limit: UInt64 = 100
    /// The clock begins at 1,000; one more, since its milliseconds are cut.
    private static let due = 1_000 + limit + 1

    private func connect(_ kind: TimeoutKind, queued: Int = 0) -> (Connection, ScriptedStream) {
        let (connection, stream) = driver.connect {
            switch kind {
            case .idle: $0.timeouts.idle = .milliseconds(100)
            case .read: $0.timeouts.read = .milliseconds(100)
            default: $0.timeouts.write = .milliseconds(100)
            }
        }
        stream.queued = queued
        if queued > 0 { connection.write([UInt8](repeating: 1, count: queued)) }
        return (connection, stream)
    }

    // MARK: Input and room

    @Test(arguments: [TimeoutKind.idle, .read])
    func `waiting input puts one off until it has been read`(kind: TimeoutKind) {
        let (connection, stream) = connect(kind)
        stream.input = true
        driver.advance(to: Self.due)
        #expect(connection.cause == nil)
        stream.input = false
        stream.received([1].span)
        #expect((closing(of: connection, until: 2_000) ?? 0) == Self.due + Self.limit + 1)
    }

    @Test(arguments: [TimeoutKind.idle, .write])
    func `room for what is queued puts one off until it has been sent`(kind: TimeoutKind) {
        let (connection, stream) = connect(kind, queued: 10)
        stream.room = true
        driver.advance(to: Self.due)
        #expect(connection.cause == nil)
        stream.room = false
        stream.queued = 5
        stream.queueShrank(to: 5)
        #expect((closing(of: connection, until: 2_000) ?? 0) == Self.due + Self.limit + 1)
    }

    @Test func `input counts for nothing while the connection is paused, nor does room without a queue`() {
        let (connection, stream) = connect(.idle)
        connection.pause()
        stream.input = true
        stream.room = true
        #expect((closing(of: connection, until: 2_000) ?? 0) == Self.due)
    }

    @Test(arguments: [TimeoutKind.idle, .read, .write])
    func `a kernel that calls a connection ready for good does not keep it`(kind: TimeoutKind) {
        let (connection, stream) = connect(kind, queued: 10)
        stream.input = true
        stream.room = true
        #expect((closing(of: connection, until: 2_000) ?? 0) == Self.due + 100)
    }

    // MARK: Stalls

    @Test(arguments: [TimeoutKind.idle, .read, .write], [20, 2_000] as [UInt64])
    func `a peer that waited for the loop has its time again, once`(kind: TimeoutKind, late: UInt64) {
        let (connection, _) = connect(kind, queued: kind == .write ? 10 : 0)
        driver.advance(to: Self.due + late)
        driver.advance(to: Self.due + late + Self.limit - 1)
        #expect(connection.cause == nil)
        // Late again: a loop that always is keeps no dead peer.
        driver.advance(to: Self.due + late + Self.limit + 500)
        #expect(connection.cause == .timedOut(kind))
    }

    @Test func `a loop that is a little late gives ten times as much again`() {
        let (connection, _) = driver.connect { $0.timeouts.idle = .seconds(10) }
        driver.advance(to: 11_001 + 30)
        #expect((closing(of: connection, until: 20_000) ?? 0) == 11_001 + 300)
    }

    @Test func `those that a stall puts off keep their order`() {
        var order: [Int] = []
        var connections: [Connection] = []
        for number in 0..<50 {
            let (connection, _) = driver.connect { $0.timeouts.idle = .milliseconds(500 + number * 2) }
            connection.onTimeout = { _, _ in
                order.append(number)
                return .close
            }
            connections.append(connection)
        }
        // Half of them are due, the first 49 ms late, and the others pass behind the stall.
        driver.advance(to: 1_550)
        #expect(order == [])
        for time in 1_551...3_000 as ClosedRange<UInt64> { driver.advance(to: time) }
        #expect(order == Array(0..<50))
    }

    @Test func `a stall is made up for where the time-out passes behind it`() {
        let (first, _) = connect(.idle)
        driver.advance(to: 1_090)
        let (second, _) = connect(.idle)
        // Only the first is due, and late.
        driver.advance(to: 1_180)
        #expect(first.cause == nil)
        #expect((closing(of: second, until: 2_000) ?? 0) == 1_180 + Self.limit)
    }

    @Test func `a loop that is late by a few milliseconds is not`() {
        let (connection, _) = connect(.idle)
        driver.advance(to: Self.due + 9)
        #expect(connection.cause == .timedOut(.idle))
    }

    // MARK: Slow peers

    @Test(arguments: [TimeoutKind.idle, .write])
    func `a peer that acknowledges more and more stays, and ends within the limit and a look when it stops`(
        kind: TimeoutKind
    ) {
        let (connection, stream) = connect(kind, queued: 10)
        let end = closing(of: connection, until: 5_000) { time in
            // Nothing of it moves the queue.
            let steps = min(time, 3_000) / 90
            stream.progress = .acknowledged(steps * 1_000, roomMadeBefore: time - steps * 90)
        }
        // The last step was at 2,970.
        #expect(end.map { (3_070...3_180).contains($0) } == true, "\(String(describing: end))")
    }

    @Test func `the first look knows when the peer last made room`() {
        let (connection, stream) = connect(.write, queued: 10)
        let end = closing(of: connection, until: 5_000) { time in
            stream.progress = .acknowledged(1_000, roomMadeBefore: max(time, 1_050) - 1_050)
        }
        #expect((end ?? 0) == 1_050 + Self.limit + 1)
    }

    @Test(arguments: [false, true])
    func `a look from before the last activity says nothing`(isUnix: Bool) {
        let (connection, stream) = connect(.write, queued: 10)
        func progress(_ count: Int, _ before: UInt64) -> SendProgress {
            isUnix ? .untaken(1_000 - count, full: 1_000) : .acknowledged(UInt64(count), roomMadeBefore: before)
        }
        stream.progress = progress(500, 20)
        driver.advance(to: Self.due)
        #expect(connection.cause == nil)
        // Bytes leave the queue: the kernel is full again, and nothing more is taken.
        driver.advance(to: 1_150)
        stream.queued = 5
        stream.queueShrank(to: 5)
        let end = closing(of: connection, until: 5_000) { time in
            stream.progress = isUnix ? .untaken(1_000, full: 1_000) : progress(900, time - 1_150)
        }
        #expect((end ?? 0) == 1_150 + Self.limit + 1)
    }

    @Test func `what a Unix peer takes out of a full socket is movement`() {
        let (connection, stream) = connect(.write, queued: 10)
        let end = closing(of: connection, until: 5_000) { time in
            stream.progress = .untaken(1_000 - Int(min(time, 2_000) - 1_000) / 90, full: 1_000)
        }
        #expect(end.map { (2_080...2_290).contains($0) } == true, "\(String(describing: end))")
    }

    @Test func `an idle time-out with an empty queue looks at what the peer has not taken`() {
        let (connection, stream) = connect(.idle)
        let end = closing(of: connection, until: 5_000) { time in
            stream.progress = .untaken(Int(2_000 - min(time, 2_000)) / 90, full: 1_000)
        }
        #expect(end.map { (2_000...2_290).contains($0) } == true, "\(String(describing: end))")
    }
}
