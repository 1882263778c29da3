internal import Glibc

/// The attempts to reach one of a host's addresses (RFC 8305). The first that opens gives its driver to the
/// connection that the user holds, and the others are reset.
///
/// It holds the connection and its attempts until it is decided, and they hold it; deciding breaks the cycle.
final class HostRace {
    private let core: LoopCore
    private var options: EventLoop.ConnectOptions
    private var connection: Connection?
    private var untried: [SocketAddress] = []
    private var attempts: [Connection] = []
    private var next: EventLoop.Timer?
    private var backOff = HostRace.firstBackOff
    /// `nil` once it is answered.
    var lookUp: EventLoop.LookUp?

    init(core: LoopCore, options: EventLoop.ConnectOptions) {
        self.core = core
        self.options = options
        // The connection's own time-out bounds all attempts together.
        self.options.connection.timeouts.connect = nil
    }

    func begin(for connection: Connection) {
        self.connection = connection
        connection.waitForOpening()
        connection.timeoutsChanged()
    }

    /// The resolver has answered.
    func resolved(_ answer: Result<[SocketAddress], IOError>) {
        lookUp = nil
        guard let connection else { return }
        do throws(IOError) {
            untried = interleaved(try answer.get())
        } catch {
            return lose(connection, error)
        }
        if let family = options.localAddress?.family { untried.removeAll { $0.family != family } }
        tryNext(after: IOError(call: "connect", errno: IOError.noAddress, detail: "no address of the local family"))
    }

    /// Begins the next attempt; without one left, waits for those under way or gives up with `error`.
    private func tryNext(after error: IOError) {
        next?.cancel()
        next = nil
        var error = error
        while let connection {
            guard !untried.isEmpty else {
                if attempts.isEmpty { lose(connection, error) }
                return
            }
            let address = untried.removeFirst()
            do throws(IOError) {
                try attempt(address)
                if !untried.isEmpty { startNextLater() }
                return
            } catch let failure {
                error = failure
            }
        }
    }

    private func attempt(_ address: SocketAddress) throws(IOError) {
        let driver = try core.driver.makeStream(
            for: address, from: options.localAddress, options: options.connection)
        let attempt = Connection(
            core: core, driver: driver, listener: nil, remoteAddress: address,
            options: Connection.SharedOptions(options.connection))
        attempt.needRare().race = self
        attempt.needRare().boundFile = SocketFile(bound: options.localAddress)
        attempts.append(attempt)
        attempt.connectReturned(driver.connect(to: address))
    }

    private func startNextLater() {
        let timer = EventLoop.Timer(core: core, interval: nil, isInternal: true) { _ in
            self.tryNext(after: IOError(call: "connect", errno: IOError.timedOut))
        }
        timer.reschedule(after: options.attemptDelay)
        next = timer
    }

    /// An attempt has opened.
    func won(by attempt: Connection) {
        guard let connection else { return attempt.reset() }
        attempts.removeAll { $0 === attempt }
        finish()
        connection.remoteAddress = attempt.remoteAddress
        if let file = attempt.rare?.boundFile { connection.needRare().boundFile = file }
        let winner = attempt.surrenderDriver()
        winner.serve(connection)
        let host = connection.driver as? HostStream
        host?.elect(winner)
        // Before bytes are sent: the first one may find the peer gone, and completions come after `onOpen`.
        connection.opened()
        host?.begin(for: connection)
    }

    /// An attempt has closed, for this reason.
    func lost(_ attempt: Connection, _ reason: CloseReason) {
        attempts.removeAll { $0 === attempt }
        guard connection != nil, case .failed(let error) = reason else { return }
        if Self.isBacklogFull(.failed(error), attempt.remoteAddress) {
            return waitForBacklog(of: attempt.remoteAddress)
        }
        tryNext(after: error)
    }

    // MARK: A full backlog

    // The pause before a Unix listener with a full backlog is tried again, in milliseconds. It doubles each time, from
    // the first to the second: the kernel does not tell when there is room.
    private static let firstBackOff: Int64 = 1
    private static let longestBackOff: Int64 = 100

    /// TCP waits for a full backlog; a non-blocking connect(2) of a Unix socket gives EAGAIN (unix(7)).
    static func isBacklogFull(_ outcome: ConnectOutcome, _ address: SocketAddress) -> Bool {
        guard case .failed(let error) = outcome else { return false }
        return error.errno == EAGAIN && address.port == nil
    }

    /// Tries `address` again later, until the connection's own time-out passes.
    func waitForBacklog(of address: SocketAddress) {
        untried.insert(address, at: 0)
        let timer = EventLoop.Timer(core: core, interval: nil, isInternal: true) { _ in
            self.tryNext(after: IOError(call: "connect", errno: EAGAIN, address: address))
        }
        timer.reschedule(after: .milliseconds(backOff))
        backOff = min(2 * backOff, Self.longestBackOff)
        next = timer
    }

    /// Whether the kernel has opened or refused an attempt, and the loop has not looked yet.
    var hasDecidedAttempt: Bool {
        attempts.contains { $0.lifecycle == .connecting && $0.driver.hasRoom }
    }

    private func lose(_ connection: Connection, _ error: IOError) {
        finish()
        connection.connectFailed(error)
    }

    /// Decided, or no longer wanted.
    func finish() {
        lookUp?.cancel()
        lookUp = nil
        next?.cancel()
        next = nil
        connection = nil
        untried = []
        let others = attempts
        attempts = []
        for attempt in others { attempt.reset() }
    }
}

/// RFC 8305, section 4: the families take turns, beginning with that of the first address, so that one family
/// that leads nowhere costs one delay.
func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
    guard let first = addresses.first else { return [] }
    let same = addresses.filter { $0.family == first.family }
    let other = addresses.filter { $0.family != first.family }
    var result: [SocketAddress] = []
    for index in 0..<max(same.count, other.count) {
        if index < same.count { result.append(same[index]) }
        if index < other.count { result.append(other[index]) }
    }
    return result
}
