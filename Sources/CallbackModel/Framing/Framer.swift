/// Cuts what a connection receives into frames, and tells each. One subclass a way of cutting.
///
/// It keeps nothing of what it has seen: the bytes of an unfinished frame are kept by ``Framing``.
class Framer {
    /// The longest frame, in bytes.
    let limit: Int

    init(limit: Int) {
        self.limit = limit
    }

    /// Tells the frame that begins at `position`, which is before the end of `bytes`.
    ///
    /// Returns the position behind it; 0 while it is not whole, and then it was not told.
    func tell(_ connection: Connection, _ bytes: Span<UInt8>, from position: Int) throws(IOError) -> Int {
        trap("a framer must override this")
    }

    /// Tells the frames that lie whole in `bytes`, from `position` on, which is moved behind each.
    ///
    /// Returns `true` if what is left is no whole frame, `false` if there may be one and `Framing.mayTellOne()` has
    /// refused it.
    /// Overridden for what is usual: there a frame costs no dynamic call and no choice of a form.
    func tellAll(
        _ framing: Framing, _ connection: Connection, _ bytes: Span<UInt8>, from position: inout Int
    ) throws(IOError) -> Bool {
        while position < bytes.count {
            guard framing.mayTellOne() else { return false }
            let end = try tell(connection, bytes, from: position)
            if end == 0 { return true }
            position = end
        }
        return true
    }

    /// How many bytes of `next` to lay behind `begun`, the beginning of a frame, before it is looked at again. At least
    /// one, and no more than the frame lacks as far as that is known.
    func shortfall(_ begun: Span<UInt8>, _ next: Span<UInt8>) throws(IOError) -> Shortfall {
        trap("a framer must override this")
    }

    struct Shortfall {
        let count: Int
        /// Whether the frame may be whole then.
        let mayBeWhole: Bool
    }

    final var tooLong: IOError {
        .invalid("frame", "longer than the limit of \(limit) bytes", errno: IOError.messageTooLong)
    }
}

/// What a framed callback gets: a closure that cannot be copied, so that calling it retains nothing it captured
/// (vendor notes, swift.md 4).
struct FrameCallback: ~Copyable {
    let body: (Connection, Span<UInt8>) -> Void

    @inline(__always)
    borrowing func call(_ connection: Connection, _ bytes: Span<UInt8>) {
        body(connection, bytes)
    }
}

/// Lines, which end with a delimiter.
final class LineFramer: Framer {
    private let delimiter: LineDelimiter
    private let callback: FrameCallback

    init(limit: Int, delimiter: LineDelimiter, _ body: @escaping (Connection, Span<UInt8>) -> Void) {
        self.delimiter = delimiter
        callback = FrameCallback(body: body)
        super.init(limit: limit)
    }

    override func tellAll(
        _ framing: Framing, _ connection: Connection, _ bytes: Span<UInt8>, from position: inout Int
    ) throws(IOError) -> Bool {
        if case .crlf = delimiter { return try super.tellAll(framing, connection, bytes, from: &position) }
        let last = delimiter.lastByte
        var rest = bytes.extracting(droppingFirst: position)
        defer { position = bytes.count &- rest.count }
        while !rest.isEmpty {
            guard framing.mayTellOne() else { return false }
            guard let end = rest.firstIndex(of: last) else {
                if rest.count - delimiter.longestPart > limit { throw tooLong }
                return true
            }
            // Looked at once, so that the optimiser need not before each use.
            require(end >= 0 && end < rest.count, "memchr found a byte outside")
            var length = end
            if end > 0, rest[end &- 1] == carriageReturn { length = delimiter.lineLength(in: rest, endingAt: end) }
            guard length <= limit else { throw tooLong }
            let line = rest.extracting(first: length)
            rest = rest.extracting(droppingFirst: end &+ 1)
            callback.call(connection, line)
        }
        return true
    }

    override func tell(_ connection: Connection, _ bytes: Span<UInt8>, from position: Int) throws(IOError) -> Int {
        let rest = bytes.extracting(droppingFirst: position)
        guard let end = delimiter.firstEnd(in: rest) else {
            if rest.count - delimiter.longestPart > limit { throw tooLong }
            return 0
        }
        let line = rest.extracting(first: delimiter.lineLength(in: rest, endingAt: end))
        guard line.count <= limit else { throw tooLong }
        callback.call(connection, line)
        return position + end + 1
    }

    override func shortfall(_ begun: Span<UInt8>, _ next: Span<UInt8>) throws(IOError) -> Shortfall {
        if let end = delimiter.firstEnd(in: next, behind: begun) { return Shortfall(count: end + 1, mayBeWhole: true) }
        if begun.count + next.count - delimiter.longestPart > limit { throw tooLong }
        return Shortfall(count: next.count, mayBeWhole: false)
    }
}

/// Messages, whose length stands before them.
final class MessageFramer: Framer {
    private let prefix: LengthPrefix
    /// Whether it is the usual one.
    private let isUInt32: Bool
    private let callback: FrameCallback

    init(limit: Int, prefix: LengthPrefix, _ body: @escaping (Connection, Span<UInt8>) -> Void) {
        self.prefix = prefix
        isUInt32 = prefix == .uint32
        callback = FrameCallback(body: body)
        super.init(limit: limit)
    }

    override func tellAll(
        _ framing: Framing, _ connection: Connection, _ bytes: Span<UInt8>, from position: inout Int
    ) throws(IOError) -> Bool {
        guard isUInt32 else { return try super.tellAll(framing, connection, bytes, from: &position) }
        var next = position
        defer { position = next }
        while next < bytes.count {
            guard framing.mayTellOne() else { return false }
            var reader = ByteReader(bytes.extracting(droppingFirst: next))
            guard let count = reader.integer(UInt32.self) else { return true }
            let length = Int(truncatingIfNeeded: count)
            guard length <= limit else { throw LengthPrefix.tooLong(UInt64(count), limit) }
            guard let message = reader.bytes(length) else { return true }
            next = next &+ 4 &+ length
            callback.call(connection, message)
        }
        return true
    }

    override func tell(_ connection: Connection, _ bytes: Span<UInt8>, from position: Int) throws(IOError) -> Int {
        var reader = ByteReader(bytes.extracting(droppingFirst: position))
        guard let length = try prefix.length(from: &reader, limit: limit) else { return 0 }
        let start = position + reader.position
        guard length <= bytes.count - start else { return 0 }
        callback.call(connection, bytes.extracting(start..<start + length))
        return start + length
    }

    override func shortfall(_ begun: Span<UInt8>, _ next: Span<UInt8>) throws(IOError) -> Shortfall {
        var reader = ByteReader(begun)
        guard let length = try prefix.length(from: &reader, limit: limit) else {
            return Shortfall(count: 1, mayBeWhole: true)
        }
        let lacking = length - reader.remaining
        return Shortfall(count: min(lacking, next.count), mayBeWhole: lacking <= next.count)
    }
}

/// Whatever the user's own parser cuts.
final class ParsedFramer: Framer {
    private let body: (Connection, inout ByteReader) throws(IOError) -> FrameStatus

    init(limit: Int, _ body: @escaping (Connection, inout ByteReader) throws(IOError) -> FrameStatus) {
        self.body = body
        super.init(limit: limit)
    }

    /// More than this is not copied at once: a short frame that was cut lacks only a few bytes.
    private static let leastStep = 4096

    override func tell(_ connection: Connection, _ bytes: Span<UInt8>, from position: Int) throws(IOError) -> Int {
        let rest = bytes.extracting(droppingFirst: position)
        // Never more than the limit, so that a frame above it is refused however it arrives.
        var reader = ByteReader(rest.extracting(first: min(rest.count, limit)))
        switch try body(connection, &reader) {
        case .needMore:
            if rest.count >= limit { throw tooLong }
            return 0
        case .frame:
            require(reader.position > 0, "onFrames: a frame of which nothing was read")
            return position + reader.position
        }
    }

    override func shortfall(_ begun: Span<UInt8>, _ next: Span<UInt8>) throws(IOError) -> Shortfall {
        let step = min(max(Self.leastStep, begun.count), limit - begun.count)
        return Shortfall(count: min(step, next.count), mayBeWhole: true)
    }
}
