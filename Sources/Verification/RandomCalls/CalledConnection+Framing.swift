internal import CallbackModel
internal import Glibc
internal import ParityKit

// Frames in the place of `onData`: what must be told is found in what the other side has sent, by the reference.
extension CalledConnection {
    func frame(_ form: FrameForm) {
        guard let connection else { return }
        machine.note("\(name("frames")): \(form)")
        overseer.call(name("a framing")) {
            form.begin(on: connection) { [self] in
                told(form, $1)
            } parse: { [self] (_, reader) throws(IOError) in
                try parse(form, &reader)
            }
        }
        guard reason == nil, !isLoopGone else { return }
        framing = form
        formsHere.append(form)
        hasFramed = true
    }

    /// A line or a message.
    private func told(_ form: FrameForm, _ bytes: Span<UInt8>) {
        callback("a frame") {
            checkIsFramed(form)
            guard !isPiped else { return }
            // How much it takes of the stream is not known.
            guard let sent = sentHere else { return isPiped = true }
            guard case .frame(let content, let end) = form.cut(sent[receivedCount...]) else {
                return report("clause 19: a frame of \(bytes.count) bytes came that was not sent")
            }
            let range = receivedCount + content.lowerBound..<receivedCount + content.upperBound
            if bytes.count != range.count || !isEqual(bytes, sent[range]) {
                report("clause 19: a frame came with \(bytes.count) bytes, others than the \(range.count) sent")
            }
            moved(by: end, form)
        }
    }

    /// The body of `onFrames`.
    private func parse(_ form: FrameForm, _ reader: inout ByteReader) throws(IOError) -> FrameStatus {
        let bytes = [UInt8](copying: reader.rest)
        var result: Result<Int?, IOError> = .success(nil)
        callback("a parser") {
            checkIsFramed(form)
            if bytes.isEmpty || bytes.count > form.limit {
                report("clause 19: a parser got \(bytes.count) bytes of \(form.limit)")
            }
            if let sent = sentHere, !isPiped, !sent[receivedCount...].starts(with: bytes) {
                report("clause 19: a parser got other bytes than were sent")
            }
            do throws(IOError) {
                let end = try FrameForm.parse(bytes)
                if let end { moved(by: end, form) }
                result = .success(end)
            } catch {
                result = .failure(error)
            }
        }
        guard let end = try result.get() else { return .needMore }
        reader.skip(end)
        return .frame
    }

    private func checkIsFramed(_ form: FrameForm) {
        if framing != form, !isPiped {
            report("clause 19: a frame came, cut by \(form), not by \(framing.map { "\($0)" } ?? "any")")
        }
        checkMayReceive("a frame")
    }

    private func moved(by count: Int, _ form: FrameForm) {
        receivedCount += count
        formsHere = [form]
    }

    /// The peer has finished in the middle of a frame.
    func unfinished(_ bytes: Span<UInt8>) {
        callback("onUnfinishedFrame") {
            if framing == nil, !isPiped { report("clause 19: a frame is unfinished, and none is asked for") }
            if bytes.isEmpty { report("clause 19: an unfinished frame has no bytes") }
            checkMayReceive("onUnfinishedFrame")
            guard !isPiped, !isTailUncertain, let sent = sentHere else { return isPiped = true }
            let rest = sent[receivedCount...]
            if bytes.count != rest.count || !isEqual(bytes, rest) {
                report("clause 19: an unfinished frame came with \(bytes.count) bytes of \(rest.count)")
            }
            if !isCut(rest) { report("clause 19: a frame was told as unfinished, and is not") }
            receivedCount = sent.count
        }
    }

    /// Whether the front of `rest` is no whole frame.
    private func isCut(_ rest: ArraySlice<UInt8>) -> Bool { framing?.cut(rest) == .unfinished }

    /// Whether the peer has finished in the middle of a frame, and no callback gets the beginning of it.
    func isCutFrame(_ sent: [UInt8]) -> Bool {
        !seesUnfinished && receivedCount < sent.count && isCut(sent[receivedCount...])
    }

    /// Whether the library may have closed the connection since it could not cut what came.
    var isRefusedSomething: Bool {
        guard hasFramed else { return false }
        guard let sent = sentHere else { return true }
        return formsHere.contains { if case .refused = $0.cut(sent[receivedCount...]) { true } else { false } }
    }

    /// The same for one errno. What the peer's end has cut is a reason too.
    func mayBeRefused(_ errno: Int32) -> Bool {
        guard hasFramed else { return false }
        guard let sent = sentHere else { return true }
        let rest = sent[receivedCount...]
        if errno == EBADMSG, missesUnfinished, !rest.isEmpty, otherMayBeGone { return true }
        return formsHere.contains { $0.cut(rest) == .refused(errno) }
    }

    /// Whether `count` bytes can have been read. Those of a frame that was not whole, or waited, are not told.
    func isReadCount(_ count: Int) -> Bool {
        guard hasFramed else { return count == receivedCount }
        return count >= receivedCount && count <= sentHere?.count ?? .max
    }

    /// What has to come of `rest`, if everybody reads.
    func owed(_ framing: FrameForm, _ rest: ArraySlice<UInt8>) -> String? {
        switch framing.cut(rest) {
        case .unfinished: nil
        case .frame(_, let end): "connection \(number) has not been told a frame of \(end) bytes"
        case .refused(let errno): "connection \(number) is not closed for errno \(errno)"
        }
    }

    // MARK: Broadcasts

    /// Whether it has got a broadcast: `nil` where that cannot be known.
    func got(_ bytes: [UInt8], isFor: Bool, _ way: Listener.WhenSaturated) -> Bool? {
        guard let alive, !isPiped, !isRefused, reason == nil, !isLoopGone else { return nil }
        let accepted = Int(alive.bytesWritten) + alive.bufferedByteCount + Int(alive.bytesUnsent)
        guard accepted == written.count || accepted == written.count + bytes.count else {
            report("a broadcast of \(bytes.count) bytes was taken as \(accepted - written.count)")
            return nil
        }
        let hasIt = accepted > written.count
        if hasIt {
            if !isFor || isOutputOver { report("a broadcast came to who must not get it") }
            written += bytes
            mayDrain = true
        } else if isFor, !isOutputOver, !mayHaveEnded, way == .write || !mayDrain {
            report("a broadcast passed it over")
        }
        return hasIt
    }
}
