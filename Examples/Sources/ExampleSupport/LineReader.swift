import CallbackServer

/// Takes a stream of bytes apart into lines that end with LF or CR LF.
///
/// However a peer cuts its lines, and however long they are: what waits here is at most one line and what one read
/// brought, and each byte is looked at once.
public struct LineReader {
    /// What a call of ``next()`` finds.
    public enum Line {
        /// A line without its end.
        case line(ArraySlice<UInt8>)
        /// The beginning of a line of more bytes than the limit; the rest is passed over.
        case tooLong(ArraySlice<UInt8>)
    }

    private let limit: Int
    private var bytes: [UInt8] = []
    /// Where the next line begins.
    private var start = 0
    /// No line ends before this.
    private var searched = 0
    /// Inside a line that was found to be too long.
    private var isPassingOver = false

    /// For lines of at most `limit` bytes, their end not counted.
    public init(limit: Int) {
        self.limit = limit
    }

    /// Whether a line has begun and is not finished.
    public var isInsideLine: Bool { start < bytes.count || isPassingOver }

    /// What is there of the line that is not finished.
    public var unfinishedLine: ArraySlice<UInt8> { bytes[start...] }

    /// More of the stream.
    public mutating func append(_ more: Span<UInt8>) {
        bytes.removeSubrange(..<start)
        searched -= start
        start = 0
        bytes.append(copying: more)
    }

    /// The next line, if all of it is there.
    public mutating func next() -> Line? {
        while let feed = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) {
            var line = bytes[start..<feed]
            start = feed + 1
            searched = start
            if isPassingOver {
                isPassingOver = false
                continue
            }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            return line.count <= limit ? .line(line) : .tooLong(line)
        }
        searched = bytes.count
        // One byte more may be the CR of a line that is just short enough.
        guard isPassingOver || bytes.count - start > limit + 1 else { return nil }
        let beginning = bytes[start...]
        start = bytes.count
        defer { isPassingOver = true }
        return isPassingOver ? nil : .tooLong(beginning)
    }
}
