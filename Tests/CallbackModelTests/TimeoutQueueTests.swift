import TestSupport
import Testing

@_spi(Engine) @testable import CallbackModel

@Suite struct `Queue of time-outs` {
    private let driver = ScriptedLoop()
    private let loop: EventLoop

    init() { loop = EventLoop(driver: driver) }

    /// A connection that notes its number when its idle time-out passes.
    private func connect(_ number: Int, idle: Int, _ passed: @escaping (Int, UInt64) -> Void) -> Connection {
        let (connection, _) = driver.connect { $0.timeouts.idle = .milliseconds(idle) }
        connection.onTimeout = { [driver] _, kind in
            #expect(kind == .idle)
            passed(number, driver.milliseconds)
            return .close
        }
        return connection
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `each time-out passes at its time, not before and once, while others come and go`(seed: UInt64) {
        let random = pseudoRandomBytes(count: 1_200, seed: seed).map(Int.init)
        var passedAt: [Int: UInt64] = [:]
        var expected: [Int: UInt64] = [:]
        var connections: [Connection] = []
        for number in 0..<400 {
            let idle = 1 + random[number] * 4 + random[400 + number] % 4
            connections.append(
                connect(number, idle: idle) { number, time in
                    #expect(passedAt[number] == nil)
                    passedAt[number] = time
                })
            // One more, since the clock's milliseconds are cut: never early.
            expected[number] = 1_000 + UInt64(idle) + 1
        }
        for (number, connection) in connections.enumerated() {
            switch random[800 + number] % 4 {
            case 0:
                connection.reset()
                expected[number] = nil
            case 1:
                var options = connection.options
                options.timeouts.idle = .milliseconds(random[number] + 1)
                connection.options = options
                expected[number] = 1_000 + UInt64(random[number] + 1) + 1
            case 2:
                var options = connection.options
                options.timeouts.idle = nil
                connection.options = options
                expected[number] = nil
            default: break
            }
        }
        for time in 1_000...2_100 as ClosedRange<UInt64> { driver.advance(to: time) }
        #expect(passedAt == expected)
        for connection in connections { connection.reset() }
        driver.turn()
    }

    @Test func `those that are due together pass in the order of their deadlines`() {
        var order: [Int] = []
        let idles = pseudoRandomBytes(count: 300, seed: 9).map { Int($0) + 1 }
        for (number, idle) in idles.enumerated() {
            _ = connect(number, idle: idle) { number, _ in order.append(number) }
        }
        // The first is late, which gives each its time once more.
        driver.advance(to: 5_000)
        #expect(order.isEmpty)
        driver.advance(to: 6_000)
        #expect(order.count == idles.count)
        #expect(order.map { idles[$0] } == idles.sorted())
    }

    @Test func `activity moves a time-out without touching the queue, and keep begins anew`() {
        var times: [UInt64] = []
        let (connection, stream) = driver.connect { $0.timeouts.idle = .milliseconds(100) }
        connection.onTimeout = { [driver] _, _ in
            times.append(driver.milliseconds)
            return times.count < 3 ? .keep : .close
        }
        driver.advance(to: 1_060)
        stream.received([1].span)
        for time in 1_061...1_600 as ClosedRange<UInt64> { driver.advance(to: time) }
        #expect(times == [1_161, 1_262, 1_363])
        #expect(connection.descriptor == -1)
    }

    @Test func `a time-out that closes all the others is the only one`() {
        var passed = 0
        var connections: [Connection] = []
        for number in 0..<50 {
            connections.append(
                connect(number, idle: 10 + number) { _, _ in
                    passed += 1
                    for each in connections { each.reset() }
                })
        }
        driver.advance(to: 5_000)
        driver.advance(to: 6_000)
        #expect(passed == 1)
    }
}
