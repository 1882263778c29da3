internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// A watcher over `uv_signal_t`. libuv carries signals through a pipe of its own, so none interrupts a call.
@safe final class LibuvSignal: SignalDriver {
    private var handle: UnsafeMutablePointer<uv_signal_t>?

    init(loop: UnsafeMutablePointer<uv_loop_t>, number: Int32) throws(IOError) {
        let handle = UnsafeMutablePointer<uv_signal_t>.allocate(capacity: 1)
        let status = unsafe uv_signal_init(loop, handle)
        guard status == 0 else {
            unsafe handle.deallocate()
            throw IOError(uv: status, call: "uv_signal_init")
        }
        unsafe self.handle = handle
        super.init()
        // Not retained: `close` comes before the watcher is let go, and forgets the pointer.
        unsafe handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        let started = unsafe uv_signal_start(
            handle,
            { handle, _ in
                guard let data = unsafe handle?.pointee.data else { return }
                unsafe Unmanaged<LibuvSignal>.fromOpaque(data).takeUnretainedValue().watcher?.received()
            }, number)
        guard started == 0 else {
            close()
            throw .invalid("sigaction", "signal \(number) cannot be watched", errno: -started)
        }
    }

    override func setReferenced(_ referenced: Bool) {
        unsafe handle?.setReferenced(referenced)
    }

    override func close() {
        guard let handle = unsafe handle else { return }
        unsafe self.handle = nil
        unsafe handle.pointee.data = nil
        unsafe handle.close { unsafe $0.deallocateHandle(of: uv_signal_t.self) }
    }

    deinit {
        close()
    }
}
