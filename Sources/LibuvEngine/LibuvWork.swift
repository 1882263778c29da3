internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// One `uv_queue_work`: a blocking function on a thread of libuv's pool, which has 4 unless the environment
/// variable UV_THREADPOOL_SIZE says otherwise.
@safe final class LibuvWork {
    private let request = UnsafeMutablePointer<uv_work_t>.allocate(capacity: 1)
    private let work: @Sendable () -> Void
    private var then: (() -> Void)?
    private unowned let owner: LibuvLoop

    init(work: @escaping @Sendable () -> Void, owner: LibuvLoop, then: @escaping () -> Void) {
        self.work = work
        self.owner = owner
        self.then = then
    }

    deinit {
        unsafe request.deallocate()
    }

    func start(on loop: UnsafeMutablePointer<uv_loop_t>) throws(IOError) {
        // Retain 1, released in the second callback, which comes in every case but a failure here.
        unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let status = unsafe uv_queue_work(
            loop, request,
            // On the thread: it touches nothing of this object but a constant.
            { request in
                guard let data = unsafe request?.pointee.data else { return }
                unsafe Unmanaged<LibuvWork>.fromOpaque(data)._withUnsafeGuaranteedRef { $0.work() }
            },
            { request, _ in
                guard let data = unsafe request?.pointee.data else { return }
                unsafe Unmanaged<LibuvWork>.fromOpaque(data).takeRetainedValue().done()
            })
        if status != 0 {
            unsafe Unmanaged.passUnretained(self).release()
            throw IOError(uv: status, call: "uv_queue_work")
        }
    }

    /// The result is no longer wanted. What a thread has begun goes on to its end all the same.
    func cancel() {
        then = nil
        unsafe UnsafeMutableRawPointer(request).withMemoryRebound(to: uv_req_t.self, capacity: 1) {
            _ = unsafe uv_cancel($0)
        }
    }

    private func done() {
        owner.forget(self)
        then?()
    }
}
