import ArgumentParser
import CallbackServer
import ExampleSupport
import Foundation

/// Every bound of the program.
private enum Limits {
    /// Listeners at a time; more wait in the kernel.
    static let listeners = 1_000
    /// Bytes that may wait for a listener who does not read: here, and as many in the kernel.
    static let unread = 4 * 1024
}

@main
struct TimeSignal: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "time-signal",
        abstract: "Sends the time to everybody who listens, again and again.",
        discussion: """
            SIGHUP sends the time at once and begins the interval anew; SIGUSR1 tells figures; \
            SIGTERM and SIGINT say goodbye to the listeners and end the program.
            """)

    @OptionGroup var options: ServerOptions

    @Option(help: ArgumentHelp("From one signal to the next.", valueName: "seconds"))
    var interval = 1.0

    func validate() throws {
        guard (0.001...86_400).contains(interval) else {
            throw ValidationError("--interval \(interval) is not between 0.001 and 86400 seconds")
        }
    }

    func run() throws {
        var measuring = EventLoop.Options()
        measuring.collectsMetrics = true
        let loop = try EventLoop(engine: options.engine, options: measuring)
        let station = Station(interval: .seconds(interval))
        var listening = Listener.Options()
        listening.maxConnections = Limits.listeners
        listening.connection.highWaterMark = Limits.unread
        listening.connection.lowWaterMark = 0
        listening.connection.sendBufferSize = Limits.unread
        listening.connection.keepAlive = .init()
        let listener = try loop.listen(on: options.address, options: listening, onConnection: station.tuneIn)
        listener.onError = { _, error in printLine("\(error)") }
        let pulse = loop.schedule(after: station.interval, repeating: station.interval) { _ in station.send() }
        try loop.onSignal(.hangUp) { _ in
            station.send()
            pulse.reschedule(after: station.interval)
        }.unref()
        try loop.onSignal(.user1) { [unowned loop] _ in station.tellFigures(of: loop) }.unref()
        try loop.drain(listener, within: .seconds(options.drain)) {
            pulse.cancel()
            station.close()
        }
        printLine("Listening on port \(listener.localAddress.port ?? 0)")
        try loop.run()
    }
}

/// Who listens, and what they hear.
final class Station {
    let interval: Duration
    private var listeners: [ObjectIdentifier: Connection] = [:]
    private var sentCount = 0

    init(interval: Duration) {
        self.interval = interval
    }

    /// What a listener sends is dropped, since nobody asked for it: no `onData`.
    func tuneIn(_ connection: Connection) {
        listeners[ObjectIdentifier(connection)] = connection
        connection.onClose = { [self] connection, _ in listeners[ObjectIdentifier(connection)] = nil }
        connection.write("Every \(interval):\n")
    }

    func send() {
        sentCount += 1
        let line = Date.now.formatted(.iso8601) + "\n"
        for connection in listeners.values where connection.write(line) == .saturated {
            // An old time is of no use, so nobody gets one.
            printLine("\(connection.remoteAddress) does not read")
            connection.reset()
        }
    }

    func tellFigures(of loop: EventLoop) {
        let metrics = loop.metrics
        printLine("\(listeners.count) listeners, \(sentCount) signals sent")
        printLine("\(metrics.turns) turns, \(metrics.callbacks) callbacks, \(metrics.timeAsleep) asleep")
    }

    func close() {
        for connection in listeners.values {
            connection.write("Goodbye.\n")
            connection.finish(within: .farewell)
        }
    }
}
