@_exported @_spi(Engine) public import CallbackModel
internal import LibuvEngine
internal import ReadinessEngine

/// What waits for events underneath an ``EventLoop``. Every engine keeps the same contract.
public enum Engine: String, CaseIterable, Sendable {
    /// libuv, which uses epoll on Linux: the default, and the product.
    case libuv
    /// epoll(7) without libuv: the reference, in which a wait costs the same however many connections are at rest.
    case epoll
    /// poll(2): the same, and a wait costs in proportion to all connections.
    case poll
    /// select(2): the same, for descriptors below 1,024 only. A client whose descriptor is beyond is shed, with
    /// ``Listener/Shed/Cause/engineLimit``; a listener or a loop there throws EMFILE.
    case select
}

extension Engine: CustomStringConvertible {
    /// `libuv`, `epoll`, `poll` or `select`.
    public var description: String { rawValue }
}

extension EventLoop {
    /// A loop for this thread. Throws EINVAL for options out of bounds, and EMFILE, ENFILE or ENOMEM when the kernel
    /// gives no descriptor to wait with.
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
