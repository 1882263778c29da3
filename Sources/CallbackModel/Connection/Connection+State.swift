// What can be seen of a connection, and what can be set.

extension Connection {
    /// Bytes that were written and that the kernel has not taken yet.
    public var bufferedByteCount: Int {
        if queuedByteCount > 0 { noteProgress() }
        return queuedByteCount + core.batch.count(of: self)
    }

    /// Bytes that the kernel has taken.
    public var bytesWritten: UInt64 {
        acceptedByteCount - UInt64(bufferedByteCount) - bytesUnsent
    }

    /// How long the connection has been open, or was.
    public var age: Duration {
        // After the end the loop may be gone, and its clock with it.
        let now = isOver ? lastReadAt : core.milliseconds
        // The clock of the turn may be behind the moment at which a time-out began to count.
        return .milliseconds(Int64(max(now, openedAt) - openedAt))
    }

    /// The descriptor, for logs only; -1 once it is closed.
    public var descriptor: Int32 {
        driver.descriptor
    }

    /// This end's address; nothing once the connection is closed.
    public var localAddress: SocketAddress? {
        driver.localAddress
    }

    /// The options in force. Setting them changes water marks, half-open behaviour and time-outs at once;
    /// socket options (`noDelay`, buffer sizes, …) take effect when the connection is made.
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
