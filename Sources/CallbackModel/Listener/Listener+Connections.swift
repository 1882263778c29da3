// What a listener does with all its connections.

extension Listener {
    /// The loop that the listener belongs to.
    ///
    /// A callback of an open listener that captures it keeps the loop for ever: ask for it inside the callback instead.
    ///
    /// - Precondition: the loop has not been let go.
    public var loop: EventLoop { core.requireLoop("Listener.loop") }

    /// The connections of this listener that are open, the oldest first; those whose `onClose` is still to come among
    /// them. Made anew each time, by a walk over the connections of the loop.
    public var connections: [Connection] {
        core.assertThread("Listener.connections")
        var found: [Connection] = []
        found.reserveCapacity(connectionCount)
        core.connections.forEach { if $0.listener === self { found.append($0) } }
        found.reverse()
        return found
    }

    /// What ``broadcast(_:except:whenSaturated:)`` does about a connection whose queue has reached its high water mark.
    public enum WhenSaturated: Hashable, Sendable {
        /// It does not get this message.
        case skip
        /// It gets the message, which waits in its queue; ``Connection/Options/maxQueuedBytes`` is the bound.
        case write
        /// It is reset: it is too slow, and without this message the rest would be of no use to it.
        case reset
    }

    /// Writes `bytes` to every open connection of this listener but one, and returns to how many.
    ///
    /// A message of 1 KiB and more is in memory once, however many queues it waits in, as far as
    /// ``Connection/write(_:)-([UInt8])`` keeps an array by reference. Each connection gets it behind
    /// what was written to it before. Connections that can be written to no more are passed over.
    ///
    /// - Parameters:
    ///   - bytes: The message.
    ///   - except: Who does not get it: usually the connection that it came from.
    ///   - whenSaturated: What happens to a connection that was at its high water mark before this message, and whose
    ///     queue has not fallen to the low water mark since.
    @discardableResult
    public func broadcast(
        _ bytes: [UInt8], except: Connection? = nil, whenSaturated: WhenSaturated
    ) -> Int {
        core.assertThread("Listener.broadcast")
        var count = 0
        core.together {
            core.connections.forEach { connection in
                guard connection.listener === self, connection !== except, connection.output.isOpen else { return }
                if connection.isBehind {
                    switch whenSaturated {
                    case .skip: return
                    case .write: break
                    case .reset: return connection.reset()
                    }
                }
                if connection.write(bytes) != .closed { count += 1 }
            }
        }
        return count
    }
}

extension Connection {
    /// Whether a write returned `.saturated` and the queue is still longer than the low water mark. What is batched is
    /// sent first: the kernel may take it all.
    fileprivate var isBehind: Bool {
        guard watch.contains(.saturated) else { return false }
        core.flushBatch(of: self)
        return queuedByteCount > sharedOptions.value.lowWaterMark
    }
}
