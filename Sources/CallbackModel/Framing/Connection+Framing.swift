// Frames in the place of `onData`.

/// What the body of ``Connection/onFrames(limit:_:)`` returns.
public enum FrameStatus: Hashable, Sendable {
    /// A frame was read: it ends where the reader is.
    case frame
    /// The frame is not whole: call again when there is more, with the same bytes and those that follow.
    case needMore
}

extension Connection {
    /// Calls `body` with each line, without its end, in the place of ``onData``.
    ///
    /// A line that lies whole in the read buffer is lent, not copied. If only its beginning has come, that is kept
    /// until the rest comes. ``pause()``, ``close()`` and another framing take effect at once. The lines that follow
    /// wait for ``resume()``, or go to the new framing. After 1,024 frames of one read, other connections have a turn.
    ///
    /// - Parameters:
    ///   - limit: The longest line in bytes, 1 to 1 GiB. Over it, the connection closes with
    ///     ``CloseReason/failed(_:)`` and EMSGSIZE.
    ///   - delimiter: What ends a line.
    public func onLines(
        limit: Int = 64 * 1024, delimiter: LineDelimiter = .newline,
        _ body: @escaping (Connection, Span<UInt8>) -> Void
    ) {
        frame(LineFramer(limit: Self.checked(limit), delimiter: delimiter, body))
    }

    /// Calls `body` with each message, without the length before it, in the place of ``onData``.
    ///
    /// What ``onLines(limit:delimiter:_:)`` says of lines holds for messages. A length beyond the limit is refused at
    /// once, before the message has come.
    ///
    /// - Parameters:
    ///   - lengthPrefix: How the length is written.
    ///   - limit: The longest message in bytes, without the prefix, 1 to 1 GiB. Over it, the connection closes with
    ///     ``CloseReason/failed(_:)`` and EMSGSIZE.
    public func onMessages(
        lengthPrefix: LengthPrefix, limit: Int = 1024 * 1024,
        _ body: @escaping (Connection, Span<UInt8>) -> Void
    ) {
        frame(MessageFramer(limit: Self.checked(limit), prefix: lengthPrefix, body))
    }

    /// Calls `body` with what has arrived, in the place of ``onData``. `body` reads one frame from the front.
    ///
    /// After ``FrameStatus/frame``, `body` is called for the next frame. After ``FrameStatus/needMore``, it is called
    /// with the same bytes in front when more has arrived. A frame is what the reader has moved over. It is never
    /// empty. An error that `body` throws closes the connection, and is the reason.
    ///
    /// - Parameter limit: The longest frame in bytes, 1 to 1 GiB. `body` never sees more. When that is not enough, the
    ///   connection closes with ``CloseReason/failed(_:)`` and EMSGSIZE.
    public func onFrames(
        limit: Int, _ body: @escaping (Connection, inout ByteReader) throws(IOError) -> FrameStatus
    ) {
        frame(ParsedFramer(limit: Self.checked(limit), body))
    }

    /// Gets the beginning of a frame in whose middle the peer has finished. Runs before ``onEnd``. Without this
    /// callback the connection closes with ``CloseReason/failed(_:)`` and EBADMSG.
    public var onUnfinishedFrame: ((Connection, Span<UInt8>) -> Void)? {
        get { rare?.framing?.onUnfinished }
        set {
            core.assertThread("Connection.onUnfinishedFrame")
            guard lifecycle != .closed else { return }
            letGo(of: onUnfinishedFrame) { needFraming().onUnfinished = newValue }
        }
    }

    /// 1 GiB, as other limits of the library.
    private static let largestFrame = 1 << 30

    private static func checked(_ limit: Int) -> Int {
        require((1...largestFrame).contains(limit), "a frame's limit is 1 to 1 GiB, not \(limit)")
        return limit
    }

    private func needFraming() -> Framing {
        let rare = needRare()
        if let framing = rare.framing { return framing }
        let made = Framing()
        rare.framing = made
        return made
    }

    private func frame(_ framer: Framer) {
        core.assertThread("Connection.onFrames")
        guard lifecycle != .closed else { return }
        let framing = needFraming()
        let isFirst = framing.framer == nil
        letGo(of: framing.framer) { framing.framer = framer }
        if isFirst { setOnData { connection, bytes in connection.rare?.framing?.received(connection, bytes) } }
        if !framing.pending.isEmpty { holdFrames() }
    }

    // MARK: What is held

    /// Whether the next frame may be told.
    var tellsFrames: Bool { input.flows }

    /// Whether nothing more is ever told.
    var isDoneReading: Bool { input == .closed || input == .ended }

    /// `onData` takes the place of a framing: what is pending goes there, in the next turn.
    func leaveFraming() {
        guard let framing = rare?.framing, framing.framer != nil else { return }
        letGo(of: framing.framer) { framing.framer = nil }
        if !framing.pending.isEmpty { holdFrames() }
    }

    /// Reads nothing until what is pending has been told, in the next turn or after `resume()`.
    func holdFrames() {
        watch.insert(.framesHeld)
        guard input.flows else { return }
        driver.stopReading()
        putOffDelivery()
    }

    /// Tells what was held, unless it has to wait still.
    func tellHeldFrames() {
        guard input.flows, isReadable, let framing = rare?.framing else { return }
        watch.remove(.framesHeld)
        if framing.framer == nil {
            tellAgain(framing.removePending())
        } else {
            core.perform(.data) { framing.goOn(self) }
        }
        guard input.flows, isReadable, !watch.contains(.framesHeld) else { return }
        beginReading()
    }

    /// Reads, after what is held has been told.
    func beginReading() {
        if watch.isDisjoint(with: [.framesHeld, .layered]) { return driver.startReading() }
        if watch.contains(.framesHeld) { putOffDelivery() } else { beginReadingLayered() }
    }

    func frameFailed(_ error: IOError) {
        guard !isOver else { return }
        noteCause(.failed(error.about(remoteAddress)))
        close()
    }

    /// The peer has finished; what is pending never becomes a frame.
    func tellUnfinishedFrame() {
        guard let framing = rare?.framing, framing.framer != nil, !framing.pending.isEmpty else { return }
        let pending = framing.removePending()
        if let onUnfinished = framing.onUnfinished {
            core.perform(.data) { onUnfinished(self, pending.span) }
        } else {
            let error = IOError(
                call: "frame", errno: IOError.badMessage, address: remoteAddress,
                detail: "the peer finished \(pending.count) bytes into one")
            noteCause(.failed(error))
        }
    }
}
