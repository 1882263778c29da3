@_exported @_spi(Engine) public import CallbackModel
internal import LibuvEngine

/// What waits for events underneath an ``EventLoop``. Every engine keeps the same contract.
public enum Engine: String, CaseIterable, Sendable {
    /// libuv, which uses epoll on Linux: the default, and the product.
    case libuv
}

extension EventLoop {
    /// A loop for this thread. Throws EMFILE, ENFILE or ENOMEM when the kernel gives no descriptor to wait with.
    public convenience init(engine: Engine = .libuv, options: Options = .init()) throws(IOError) {
        switch engine {
        case .libuv: self.init(driver: try LibuvLoop(options: options))
        }
    }
}
