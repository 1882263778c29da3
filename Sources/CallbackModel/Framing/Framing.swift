/// What a connection has received and not told yet, and how it is cut: one for each connection that has ever framed.
///
/// `pending` is empty, or the beginning of one frame, or it waits: then `Watch.framesHeld` is set, nothing is read, and
/// the rest is told in the next turn or after `resume()`.
final class Framing {
    /// `nil` once `onData` is set: `pending` then goes there, uncut.
    var framer: Framer? {
        didSet { stop() }
    }
    var onUnfinished: ((Connection, Span<UInt8>) -> Void)?
    private(set) var pending: [UInt8] = []
    /// How much of `pending` was told already. It is removed with the rest: each turn would copy all that waits.
    private var toldCount = 0

    /// How many bytes wait.
    var pendingCount: Int { pending.count - toldCount }

    /// The most frames of one read that are told before other connections have their turn.
    static let framesPerTurn = 1024

    /// How many frames more may be told in this turn; below 0 once one was refused. Unchecked (swift.md 1): a callback
    /// may come back here while frames are told.
    @safe @exclusivity(unchecked) private var framesLeft = 0

    /// Counts a frame, and answers whether it may be told. Asked before each, since the callback of the last one may
    /// have called ``stop()``: one look for every reason.
    @inline(__always)
    func mayTellOne() -> Bool {
        framesLeft &-= 1
        return framesLeft >= 0
    }

    /// Tells no more frames in this turn: another framing was set, or the connection pauses, ends or closes.
    func stop() {
        framesLeft = 0
    }

    /// Why no more frames are told for now.
    private enum Stop {
        /// All are told but the one that is not whole.
        case needMore
        /// The user has paused, closed or set `onData`, or there were too many for one turn.
        case held
        case failed(IOError)
    }

    /// What one read brought.
    func received(_ connection: Connection, _ bytes: Span<UInt8>) {
        framesLeft = Self.framesPerTurn
        var position = 0
        var stop = Stop.needMore
        if !pending.isEmpty { (position, stop) = complete(connection, bytes) }
        if case .needMore = stop, position < bytes.count { (position, stop) = tell(connection, bytes, from: position) }
        stopped(connection, stop, rest: bytes.extracting(droppingFirst: position))
    }

    /// Goes on with what was held.
    func goOn(_ connection: Connection) {
        framesLeft = Self.framesPerTurn
        let start = toldCount
        let held = removeAll()
        let (position, stop) = tell(connection, held.span, from: start)
        if case .held = stop, pending.isEmpty, position < held.count, !connection.isDoneReading {
            pending = held
            toldCount = position
            return connection.holdFrames()
        }
        stopped(connection, stop, rest: held.span.extracting(droppingFirst: position))
    }

    /// Gives away what is pending: a callback may add to it meanwhile.
    func removePending() -> [UInt8] {
        if toldCount > 0 { pending.removeFirst(toldCount) }
        return removeAll()
    }

    private func removeAll() -> [UInt8] {
        let bytes = pending
        pending = []
        toldCount = 0
        return bytes
    }

    /// Tells the frames that lie whole in `bytes`, without copying one.
    private func tell(_ connection: Connection, _ bytes: Span<UInt8>, from start: Int) -> (Int, Stop) {
        guard let framer else { return (start, .held) }
        var position = start
        do throws(IOError) {
            let isOutOfFrames = try framer.tellAll(self, connection, bytes, from: &position)
            let mayWait = isOutOfFrames && canWait(for: framer, connection)
            return (position, mayWait || position == bytes.count ? .needMore : .held)
        } catch {
            return (position, .failed(error))
        }
    }

    /// Lays as much of `bytes` behind the frame that was cut as it lacks, and tells it.
    ///
    /// Returns how much of `bytes` was taken. With `.needMore`, `pending` is empty or all of `bytes` is in it.
    private func complete(_ connection: Connection, _ bytes: Span<UInt8>) -> (Int, Stop) {
        // Out of `pending`, which the callback may come back to.
        var begun = removePending()
        var position = 0
        var asked = framer
        while !begun.isEmpty, position < bytes.count, let framer {
            asked = framer
            do throws(IOError) {
                let next = try framer.shortfall(begun.span, bytes.extracting(droppingFirst: position))
                begun.append(copying: bytes.extracting(position..<position + next.count))
                position += next.count
                guard next.mayBeWhole else { continue }
                let end = try framer.tell(connection, begun.span, from: 0)
                guard end > 0 else {
                    // Another framer would look for its end only in what is new.
                    guard canWait(for: framer, connection) else { break }
                    continue
                }
                framesLeft &-= 1
                // What is behind the frame came from `bytes`, and is told from there.
                position -= begun.count - end
                require(position >= 0, "onFrames: bytes are a frame now for which the parser had asked for more")
                begun.removeAll(keepingCapacity: begun.capacity <= Self.largestKept)
            } catch {
                return (position, .failed(error))
            }
        }
        pending = begun
        return (position, canWait(for: asked, connection) ? .needMore : .held)
    }

    /// Whether `asked`, which wants more bytes, is still the one to get them. A parser may have set another, or paused,
    /// and returned `.needMore` all the same.
    private func canWait(for asked: Framer?, _ connection: Connection) -> Bool {
        framer != nil && framer === asked && connection.tellsFrames
    }

    /// Memory of a cut frame that is kept for the next one.
    private static let largestKept = 4096

    private func stopped(_ connection: Connection, _ stop: Stop, rest: Span<UInt8>) {
        switch stop {
        case .needMore:
            pending.append(copying: rest)
        case .held:
            guard !connection.isDoneReading else { return pending = [] }
            pending.append(copying: rest)
            if !pending.isEmpty { connection.holdFrames() }
        case .failed(let error):
            pending = []
            connection.frameFailed(error)
        }
    }
}
