internal import CLibuv
@_spi(Engine) internal import CallbackModel

/// A descriptor that is no stream, watched for input as `uv_poll_t`. It stays its owner's, and keeps the loop running
/// only when asked to.
@safe final class PolledDescriptor {
    private var handle: UnsafeMutablePointer<uv_poll_t>?
    private let becameReady: () -> Void

    /// Throws EEXIST for a descriptor that the loop watches already, and what epoll_ctl(2) says.
    init(loop: LibuvLoop, _ descriptor: Int32, becameReady: @escaping () -> Void) throws(IOError) {
        self.becameReady = becameReady
        let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        let status = unsafe uv_poll_init(loop.loop, handle, descriptor)
        guard status == 0 else {
            unsafe handle.deallocate()
            throw IOError(uv: status, call: "uv_poll_init")
        }
        unsafe self.handle = handle
        // Not retained: `close` clears the pointer, and comes before this object is released.
        unsafe handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        unsafe handle.setReferenced(false)
        let started = unsafe uv_poll_start(handle, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            guard let data = unsafe handle?.pointee.data else { return }
            unsafe Unmanaged<PolledDescriptor>.fromOpaque(data).takeUnretainedValue().becameReady()
        }
        require(started == 0, "uv_poll_start: \(started)")
    }

    /// Whether it keeps the loop running.
    func setReferenced(_ isReferenced: Bool) {
        unsafe handle?.setReferenced(isReferenced)
    }

    /// Comes before its owner closes the descriptor (libuv documentation, uv_poll_init).
    func close() {
        guard let handle = unsafe handle else { return }
        unsafe self.handle = nil
        unsafe handle.pointee.data = nil
        unsafe uv_poll_stop(handle)
        unsafe handle.close { unsafe $0.deallocateHandle(of: uv_poll_t.self) }
    }
}
