import Glibc

extension PlainClient {
    /// How a stream was over.
    public enum Ending: Hashable, Sendable {
        /// FIN: all that the peer sent has come.
        case end
        /// RST.
        case reset
    }

    /// The most bytes that `receiveUntilEnd` takes unless told otherwise: more is a peer gone wild.
    public static let longestInput = 64 << 20

    /// Receives just so many bytes; throws if the stream is over before.
    public func receive(exactly count: Int) throws -> [UInt8] {
        let deadline = Deadline(in: timeLimit)
        return try [UInt8](unsafeUninitializedCapacity: count) { buffer, received in
            let bytes = UnsafeMutableRawBufferPointer(buffer)
            while received < count {
                let waitedFor = "byte \(received) of \(count)"
                let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[received..<count])
                let piece = try receivePiece(into: rest, until: deadline, waitedFor)
                guard piece > 0 else { throw unexpected("the end of input came", waitedFor) }
                received += piece
            }
        }
    }

    /// Waits for bytes and gives what is there, at most `max`; nothing at the end of input.
    public func receiveSome(max: Int = 65_536) throws -> [UInt8] {
        precondition(max > 0, "max \(max) is not positive: no bytes would look like the end")
        return try receiveSome(max: max, until: Deadline(in: timeLimit), "bytes or the end of input")
    }

    /// Receives until FIN and gives all of it; throws at a reset, and beyond `max` bytes.
    public func receiveUntilEnd(max: Int = longestInput) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try receiveToTheEnd(into: &bytes, max: max, "the end of input")
        return bytes
    }

    /// Receives until FIN or RST, whichever comes, and gives the bytes before it.
    public func receiveUntilOver(max: Int = longestInput) throws -> (bytes: [UInt8], ending: Ending) {
        var bytes: [UInt8] = []
        do {
            try receiveToTheEnd(into: &bytes, max: max, "the end of input or a reset")
            return (bytes, .end)
        } catch let error as PeerError where error.errno == ECONNRESET {
            return (bytes, .reset)
        }
    }

    /// Receives up to a line feed; gives the line without it. Nothing behind it is taken from the stream.
    public func receiveLine() throws -> String {
        let deadline = Deadline(in: timeLimit)
        var line: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4_096)
        while true {
            try piece.withUnsafeMutableBytes { piece in
                let waitedFor = "a line feed behind \"\(String(decoding: line, as: UTF8.self))\""
                let peek = Int32(MSG_PEEK)
                let seen = try receivePiece(into: piece, flags: peek, until: deadline, waitedFor)
                guard seen > 0 else { throw unexpected("the end of input came", waitedFor) }
                let length = piece[..<seen].firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? seen
                let taken = try receiveNow(UnsafeMutableRawBufferPointer(rebasing: piece[..<length]))
                line += piece[..<(taken ?? 0)]
            }
            if line.last == UInt8(ascii: "\n") { return String(decoding: line.dropLast(), as: UTF8.self) }
        }
    }

    /// Throws unless the next thing to come is FIN.
    public func expectEnd() throws {
        let bytes = try receiveSome(max: 64, until: Deadline(in: timeLimit), "the end of input")
        if !bytes.isEmpty { throw unexpected("bytes came: \(bytes)", "the end of input") }
    }

    /// Throws unless the next thing to come is RST. A send that was answered with ECONNRESET counts.
    public func expectReset() throws {
        do {
            let bytes = try receiveSome(max: 64, until: Deadline(in: timeLimit), "a reset")
            throw unexpected(bytes.isEmpty ? "the end of input came" : "bytes came: \(bytes)", "a reset")
        } catch let error as PeerError where error.errno == ECONNRESET {
            return
        }
    }

    // MARK: Parts

    /// What came instead of what was waited for.
    func unexpected(_ what: String, _ waitedFor: String) -> PeerError {
        PeerError(call: "recv", cause: .unexpected(what), waitedFor: waitedFor)
    }

    private func receiveSome(max: Int, until deadline: Deadline, _ waitedFor: String) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: max) { buffer, received in
            let room = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<max])
            received = try receivePiece(into: room, until: deadline, waitedFor)
        }
    }

    private func receiveToTheEnd(into bytes: inout [UInt8], max: Int, _ waitedFor: String) throws {
        let deadline = Deadline(in: timeLimit)
        while true {
            let waitedFor = "\(waitedFor), behind \(bytes.count) bytes"
            let piece = try receiveSome(max: 65_536, until: deadline, waitedFor)
            if piece.isEmpty { return }
            bytes += piece
            if bytes.count > max { throw unexpected("more than \(max) bytes came", waitedFor) }
        }
    }

    /// Waits for one piece of input; 0 at its end.
    private func receivePiece(
        into bytes: UnsafeMutableRawBufferPointer, flags: Int32 = 0, until deadline: Deadline,
        _ waitedFor: String
    ) throws -> Int {
        while true {
            try awaitReadiness(POLLIN, until: deadline, "recv", waitedFor)
            if let count = try receiveNow(bytes, flags: flags) { return count }
        }
    }
}
