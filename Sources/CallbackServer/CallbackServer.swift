@_exported @_spi(Engine) public import CallbackModel
internal import LibuvEngine
internal import ReadinessEngine

/// What waits for events underneath an ``EventLoop``. Every engine keeps the same contract.
public enum Engine: String, CaseIterable, Sendable {
    /// libuv, which uses epoll on Linux: the default, and the product.
    case libuv
    /// epoll(7) without libuv, a reference. A wait costs the same however many connections are at rest.
    case epoll
    /// poll(2), a reference. A wait costs in proportion to the number of connections.
    case poll
    /// select(2), a reference for descriptors below 1,024. A client with a larger one is turned away, with
    /// ``Listener/Shed/Cause/engineLimit``. A listener or a loop with a larger one throws EMFILE.
    case select
}

extension Engine: CustomStringConvertible {
    /// `libuv`, `epoll`, `poll` or `select`.
    public var description: String { rawValue }
}

extension EventLoop {
    /// A loop for this thread. Throws EINVAL for options out of bounds, and EMFILE, ENFILE or ENOMEM if the kernel has
    /// no descriptor to wait with.
    public convenience init(engine: Engine = .libuv, options: Options = .init()) throws(IOError) {
        try options.validate()
        switch engine {
        case .libuv: self.init(driver: try LibuvLoop(options: options), options: options)
        case .epoll: self.init(driver: try ReadinessLoop(.epoll, options: options), options: options)
        case .poll: self.init(driver: try ReadinessLoop(.poll, options: options), options: options)
        case .select: self.init(driver: try ReadinessLoop(.select, options: options), options: options)
        }
    }
}

extension EventLoop.Group {
    /// A group of `count` loops and the first one, all of one engine and with these options. Throws what making a loop
    /// throws, EINVAL for a count below 1 or above 1,024, and EAGAIN when no thread can be made (pthread_create(3)).
    public convenience init(
        engine: Engine = .libuv, count: Int = EventLoop.Group.coreCount, options: EventLoop.Options = .init()
    ) throws(IOError) {
        try self.init(count: count) { () throws(IOError) in try EventLoop(engine: engine, options: options) }
    }
}
