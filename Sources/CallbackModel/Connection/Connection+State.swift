// How far a connection is, and what may still go each way.

extension Connection {
    /// What may still be written. `write` looks at nothing else.
    enum Output: UInt8 {
        case open
        /// As `open`, and a ``ConnectionLayer`` stands before the driver.
        case layered
        /// `end()` was called: FIN follows the queue.
        case ending
        /// FIN is sent.
        case ended
        /// Nothing more goes out: closing, closed, or a write has failed.
        case closed

        var isOpen: Bool { self == .open || self == .layered }
    }

    /// What may still be delivered.
    enum Input: UInt8 {
        case flowing
        /// As `flowing`, and a ``ConnectionLayer`` stands behind the driver.
        case layered
        /// By ``Connection/pause()``.
        case paused
        /// By an overloaded loop: more than its share is queued.
        case held
        /// `onEnd` has run.
        case ended
        case closed

        var flows: Bool { self == .flowing || self == .layered }
    }

    /// How far the connection is from its end.
    enum Lifecycle: UInt8 {
        /// By this side, and not open yet; or a layer's handshake is under way.
        case connecting
        /// Before `onConnection` has returned: nothing is read yet.
        case starting
        case open
        /// `close()` was called and bytes are still queued.
        case flushing
        /// The peer has reset the connection; what it sent before is read out.
        case readingOut
        /// The driver closes; `onClose` follows.
        case closing
        /// `onClose` has run, and all callbacks are released.
        case closed
    }

    /// Whether the three go together: 48 of the 210 combinations do.
    static func isLegal(_ lifecycle: Lifecycle, _ output: Output, _ input: Input) -> Bool {
        // A layer stands at both edges or at none.
        if output == .open && input == .layered || output == .layered && input == .flowing { return false }
        return switch (lifecycle, output) {
        case (.connecting, .open), (.connecting, .layered), (.connecting, .ending), (.starting, .open),
            (.starting, .layered), (.starting, .ending):
            input.flows || input == .paused || input == .held
        // With FIN sent nothing is queued, so the connection has no more than its share: it is not held.
        case (.connecting, .ended): input == .flowing || input == .paused
        case (.starting, .ended): input.flows || input == .paused
        case (.open, .open), (.open, .layered), (.open, .ending): input != .closed
        case (.open, .ended): input.flows || input == .paused || input == .ended
        // The queue is dropped, so this is not held either.
        case (.readingOut, .closed): input.flows || input == .paused
        case (.flushing, .closed), (.closing, .closed), (.closed, .closed): input == .closed
        case (_, .closed), (.flushing, _), (.readingOut, _), (.closing, _), (.closed, _): false
        }
    }
}

// What can be seen of a connection, and what can be set.

extension Connection {
    /// Bytes that were written and that the kernel has not taken yet.
    public var bufferedByteCount: Int {
        let batched = core.batch.count(of: self)
        if queuedByteCount == 0 { return batched }
        noteProgress()
        return (layer?.unsentByteCount ?? queuedByteCount) + batched
    }

    /// Bytes that the kernel has taken.
    public var bytesWritten: UInt64 {
        acceptedByteCount - UInt64(bufferedByteCount) - bytesUnsent
    }

    /// How long the connection has been open, or was.
    public var age: Duration {
        // After the end the loop may be gone, and its clock with it.
        let now = isOver ? lastReadAt : core.milliseconds
        // A time-out may have begun to count after the moment that the turn's clock shows.
        return .milliseconds(Int64(max(now, openedAt) - openedAt))
    }

    /// The descriptor, for logs only; -1 once it is closed.
    public var descriptor: Int32 {
        driver.descriptor
    }

    /// This end's address; `nil` once the connection is closed.
    public var localAddress: SocketAddress? {
        driver.localAddress
    }

    /// The options in force. Setting them changes water marks, half-open behaviour and time-outs at once;
    /// socket options (`noDelay`, buffer sizes, …) take effect when the connection is made. A new `maxQueuedBytes` is
    /// looked at when the queue next grows.
    ///
    /// - Precondition: the values set are within their documented bounds.
    public var options: Options {
        get { sharedOptions.value }
        set {
            core.assertThread("Connection.options")
            do {
                try newValue.validate()
            } catch {
                trap("Connection.options: \(error)")
            }
            let old = sharedOptions.value.timeouts
            sharedOptions = SharedOptions(newValue)
            timeoutsSet(old)
            highWaterMark = Int32(newValue.highWaterMark)
            timeoutsChanged()
        }
    }
}
