@_spi(Engine) internal import CallbackModel
internal import Glibc

/// One stream cut in many ways, without sockets: whatever the cuts, the library tells what the reference does.
package struct FrameCuts {
    /// By which each stream is cut; each in turn for `period` frames.
    private let forms: [FrameForm]
    /// The same; others, to see that a difference shows.
    private let reference: [FrameForm]
    private let period: Int
    /// The number of frames after which the callback pauses, again and again. The next turn resumes. 0 for never.
    private let pauseEvery: Int
    private let line = CutLine()

    package init(
        _ forms: [FrameForm], changingEach period: Int = .max, pausingEach pauseEvery: Int = 0,
        reference: [FrameForm]? = nil
    ) {
        self.forms = forms
        self.reference = reference ?? forms
        self.period = period
        self.pauseEvery = pauseEvery
    }

    /// What came of a stream.
    struct Outcome: Equatable, CustomStringConvertible {
        var frames: [[UInt8]] = []
        /// The beginning of a frame at the end of the stream.
        var unfinished: [UInt8]?
        /// Why the connection was closed before that.
        var refusal: Int32?

        var description: String { "\(frames), unfinished \(unfinished ?? []), errno \(refusal ?? 0)" }
    }

    private func form(_ forms: [FrameForm], after count: Int) -> FrameForm { forms[count / period % forms.count] }

    /// What the reference makes of `stream`.
    func expected(of stream: [UInt8]) -> Outcome {
        var outcome = Outcome()
        var rest = stream[...]
        while !rest.isEmpty {
            switch form(reference, after: outcome.frames.count).cut(rest) {
            case .unfinished:
                outcome.unfinished = Array(rest)
                return outcome
            case .refused(let errno):
                outcome.refusal = errno
                return outcome
            case .frame(let content, let end):
                let start = rest.startIndex
                outcome.frames.append(Array(rest[start + content.lowerBound..<start + content.upperBound]))
                rest = rest.dropFirst(end)
            }
        }
        return outcome
    }

    /// What the library makes of it, when it arrives in reads that end at `places` and at its end.
    func outcome(of stream: [UInt8], cutAt places: [Int]) -> Outcome {
        let connection = line.connect()
        var outcome = Outcome()
        connection.onUnfinishedFrame = { outcome.unfinished = [UInt8](copying: $1) }
        connection.onClose = { _, reason in
            if case .failed(let error) = reason { outcome.refusal = error.errno }
        }
        func begin(_ form: FrameForm) {
            form.begin(on: connection) { _, bytes in
                told([UInt8](copying: bytes))
            } parse: { (_, reader) throws(IOError) in
                let bytes = [UInt8](copying: reader.rest)
                guard let end = try FrameForm.parse(bytes) else { return .needMore }
                reader.skip(end)
                told(Array(bytes[2..<end]))
                return .frame
            }
        }
        func told(_ frame: [UInt8]) {
            outcome.frames.append(frame)
            let next = form(forms, after: outcome.frames.count)
            if next != form(forms, after: outcome.frames.count - 1) { begin(next) }
            if pauseEvery > 0, outcome.frames.count.isMultiple(of: pauseEvery) { connection.pause() }
        }
        begin(form(forms, after: 0))
        var start = 0
        for end in places + [stream.count] where end > start {
            line.receive(stream[start..<end])
            start = end
        }
        line.end()
        return outcome
    }

    /// The first way to cut `stream` at which the two differ; `nil` if there is none.
    ///
    /// What the library keeps between two reads depends on how many bytes there were, if all is well: so each way from
    /// one place to another one is gone, which are all pairs of places. With `all` it is each way there is, of which a
    /// stream of n bytes has 2^(n-1).
    package func difference(in stream: [UInt8], all: Bool = false) -> String? {
        let expected = expected(of: stream)
        func differs(_ places: [Int]) -> String? { difference(in: stream, cutAt: places, expected) }
        let inner = 1..<max(1, stream.count)
        if all {
            for choice in 0..<1 << inner.count {
                if let text = differs(inner.filter { choice >> ($0 - 1) & 1 == 1 }) { return text }
            }
            return nil
        }
        for first in [0] + inner {
            for second in first..<max(1, stream.count) where second > first || first == 0 {
                if let text = differs([first, second]) { return text }
            }
        }
        return differs(Array(inner))
    }

    /// The difference where `stream` is cut at `places`.
    package func difference(in stream: [UInt8], cutAt places: [Int]) -> String? {
        difference(in: stream, cutAt: places.filter { $0 < stream.count }, expected(of: stream))
    }

    private func difference(in stream: [UInt8], cutAt places: [Int], _ expected: Outcome) -> String? {
        let found = outcome(of: stream, cutAt: places)
        guard found != expected else { return nil }
        return "\(forms), \(stream) cut at \(places): \(found), expected \(expected)"
    }
}

extension FrameCuts {
    private static let limits = [1, 2, 3, 5, 30, 300, 5_000, 1 << 20]

    /// `difference` in what a fuzzer has written: the forms, when they change and when the callback pauses, then the
    /// stream.
    package static func difference(inFuzzed input: [UInt8]) -> String? {
        guard input.count > 4 else { return nil }
        let forms = input[..<2].map { byte in
            let kinds = FrameForm.Kind.allCases
            return FrameForm(kinds[Int(byte) % kinds.count], limit: limits[Int(byte) / kinds.count % limits.count])
        }
        let period = input[2] == 0 ? Int.max : Int(input[2])
        let cuts = FrameCuts(forms, changingEach: period, pausingEach: Int(input[3]))
        return cuts.difference(in: Array(input[4...]))
    }
}

/// Connections, one after the other, that are told what they read, in a loop that is driven by hand.
private final class CutLine {
    private let driver = CutLoop()
    private let loop: EventLoop
    private var connection: Connection?

    init() { loop = EventLoop(driver: driver) }

    /// A new one; the last one has ended.
    func connect() -> Connection {
        defer { driver.turns() }
        do throws(IOError) {
            let connection = try loop.adopt(connected: 0)
            self.connection = connection
            return connection
        } catch {
            trap("the driver takes any descriptor: \(error)")
        }
    }

    /// One read, and then all that is put off.
    func receive(_ bytes: ArraySlice<UInt8>) {
        if driver.stream.isReading { driver.stream.received(bytes.span) }
        goOn()
    }

    func end() {
        if driver.stream.isReading { driver.stream.reachedEnd() }
        goOn()
        connection?.reset()
        driver.turns()
        connection = nil
    }

    /// Until it reads again or has closed.
    private func goOn() {
        repeat {
            connection?.resume()
            driver.turns()
        } while !driver.stream.isReading && !driver.stream.isClosed && !driver.stream.isFinished
    }
}

private final class CutLoop: LoopDriver {
    /// The last one made.
    private(set) var stream = CutStream()
    private var isTurnRequested = false

    override var cachedMilliseconds: UInt64 { 1_000 }
    override var nanoseconds: UInt64 { 1_000_000_000 }
    override func hold(_ isHeld: Bool) {}
    override var wake: @Sendable () -> Void { {} }
    override func requestTurn() { isTurnRequested = true }
    override func makeTimer() -> TimerDriver { CutTimer() }
    override func shutDown() { stream.tellClosed() }

    override func adoptStream(
        _ descriptor: Int32, options: Connection.Options
    ) throws(IOError) -> (StreamDriver, SocketAddress) {
        stream = CutStream()
        return (stream, .unnamed)
    }

    /// Until nothing is put off.
    func turns() {
        while isTurnRequested {
            isTurnRequested = false
            requestedTurnBegan()
        }
        stream.tellClosed()
    }
}

private final class CutTimer: TimerDriver {
    override func start(deadline: UInt64) {}
    override func stop() {}
    override func setReferenced(_ referenced: Bool) {}
    override func close() {}
}

private final class CutStream: StreamDriver {
    private(set) var isReading = false
    private(set) var isClosed = false
    private var isToldOfClose = false
    private(set) var isFinished = false

    override var descriptor: Int32 { isClosed ? -1 : 0 }
    override var localAddress: SocketAddress? { nil }
    override var queuedByteCount: Int { 0 }
    override var loss: Int32? { nil }
    override func startReading() { isReading = true }
    override func stopReading() { isReading = false }
    override func finish() { isFinished = true }
    override func send(_ bytes: Span<UInt8>) -> Int { 0 }

    override func close(resetting: Bool) {
        isClosed = true
        isReading = false
    }

    func tellClosed() {
        guard isClosed, !isToldOfClose else { return }
        isToldOfClose = true
        closed()
    }
}
