// What a module above the model keeps with a connection. A message never comes here.

/// What a module above the model keeps with one connection, and is told of it. It is let go when the connection has
/// closed.
package protocol ConnectionAttachment: AnyObject {
    /// Whether this side ends only when the module says so, instead of right behind `onEnd`: what reads later than the
    /// loop has yet to answer what came before the peer's FIN.
    var holdsEnd: Bool { get }

    /// The connection has closed, and `onClose` has run; or the loop is let go, and no callback runs.
    ///
    /// Called once, before the connection's tasks are cancelled.
    func connectionClosed(_ reason: CloseReason)
}

extension Connection {
    /// What is kept with the connection. A closed one keeps nothing.
    package var attachment: (any ConnectionAttachment)? {
        get { rare?.attachment }
        set { if lifecycle != .closed { needRare().attachment = newValue } }
    }

    /// ``EventLoop/waker`` of its loop, which may be gone.
    package var waker: EventLoop.Waker { EventLoop.Waker(queue: core.wakes) }

    /// Why nothing can be written any more; `nil` while something can.
    package var reasonOfEnding: CloseReason? { output.isOpen ? nil : cause ?? .localClose }

    /// Why the connection has closed, or its loop is let go; `nil` before `onClose` has run.
    package var reasonOfClosing: CloseReason? {
        lifecycle == .closed || core.isShutDown ? cause ?? .localClose : nil
    }

    func tellAttachment(_ reason: CloseReason) {
        guard let attachment = rare?.attachment else { return }
        rare?.attachment = nil
        attachment.connectionClosed(reason)
    }
}
