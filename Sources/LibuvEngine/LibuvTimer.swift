internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// A timer over `uv_timer_t`, armed with absolute deadlines.
@safe final class LibuvTimer: TimerDriver {
    private var handle: UnsafeMutablePointer<uv_timer_t>?

    init(loop: UnsafeMutablePointer<uv_loop_t>) {
        let handle = UnsafeMutablePointer<uv_timer_t>.allocate(capacity: 1)
        unsafe uv_timer_init(loop, handle)
        unsafe self.handle = handle
        super.init()
        // Not retained: `close` clears the pointer, and comes before this object is released.
        unsafe handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    }

    override func start(deadline: UInt64) {
        guard let handle = unsafe handle else { return }
        // libuv adds its cached time to the delay, so that the deadline is exact.
        let now = unsafe uv_now(handle.pointee.loop)
        let delay = deadline > now ? deadline - now : 0
        _ = unsafe uv_timer_start(
            handle,
            { handle in
                guard let data = unsafe handle?.pointee.data else { return }
                unsafe Unmanaged<LibuvTimer>.fromOpaque(data).takeUnretainedValue().fired()
            }, delay, 0)
    }

    override func stop() {
        guard let handle = unsafe handle else { return }
        unsafe uv_timer_stop(handle)
    }

    override func setReferenced(_ referenced: Bool) {
        unsafe handle?.setReferenced(referenced)
    }

    override func close() {
        guard let handle = unsafe handle else { return }
        unsafe self.handle = nil
        unsafe handle.pointee.data = nil
        unsafe handle.close { unsafe $0.deallocateHandle(of: uv_timer_t.self) }
    }

    deinit {
        close()
    }
}
