internal import CLibuv
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// One loop's end of the process's signal relay: a counter that the relay raises, watched as `uv_poll_t`.
///
/// Not `uv_signal_t`: that would replace a signal's handler for the loops of the other engines, and never restore it.
@safe final class LibuvSignals {
    private let counter: Counter
    private var receiver: SignalReceiver?
    private var handle: UnsafeMutablePointer<uv_poll_t>?

    /// Throws EMFILE, ENFILE or ENOMEM, and ENOSPC if 64 loops watch signals already.
    init(loop: UnsafeMutablePointer<uv_loop_t>) throws(IOError) {
        counter = try Counter()
        let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        let status = unsafe uv_poll_init(loop, handle, counter.descriptor)
        guard status == 0 else {
            unsafe handle.deallocate()
            counter.close()
            throw IOError(uv: status, call: "uv_poll_init")
        }
        unsafe self.handle = handle
        // Not retained: `close` clears the pointer, and comes before this object is released.
        unsafe handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        do throws(IOError) {
            receiver = try SignalReceiver(counter: counter) { [unowned self] in referenceChanged() }
        } catch {
            close()
            throw error
        }
        referenceChanged()
        let started = unsafe uv_poll_start(handle, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            guard let data = unsafe handle?.pointee.data else { return }
            unsafe Unmanaged<LibuvSignals>.fromOpaque(data).takeUnretainedValue().becameReady()
        }
        require(started == 0, "uv_poll_start: \(started)")
    }

    func watch(_ number: Int32) throws(IOError) -> SignalDriver {
        guard let receiver else { throw IOError(call: "sigaction", errno: EBADF) }
        return try receiver.watch(number)
    }

    private func becameReady() {
        counter.lower()
        receiver?.becameReady()
    }

    private func referenceChanged() {
        unsafe handle?.setReferenced(receiver?.isReferenced ?? false)
    }

    func close() {
        guard let handle = unsafe handle else { return }
        unsafe self.handle = nil
        unsafe handle.pointee.data = nil
        // The poll handle must have stopped before its descriptor closes (libuv documentation, uv_poll_init).
        unsafe uv_poll_stop(handle)
        receiver?.close()
        counter.close()
        unsafe handle.close { unsafe $0.deallocateHandle(of: uv_poll_t.self) }
    }
}
