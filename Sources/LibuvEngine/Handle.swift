internal import CLibuv

/// A libuv handle: a struct that begins with `uv_handle_t` (libuv documentation, "Base handle").
///
/// Its memory belongs to libuv from its init call until its close callback, and is given back only there.
protocol UVHandle: ~Copyable {}
extension uv_async_t: UVHandle {}
extension uv_idle_t: UVHandle {}
extension uv_poll_t: UVHandle {}
extension uv_prepare_t: UVHandle {}
extension uv_timer_t: UVHandle {}
extension uv_tcp_t: UVHandle {}
extension uv_pipe_t: UVHandle {}
extension uv_stream_t: UVHandle {}

extension UnsafeMutablePointer where Pointee: UVHandle {
    /// The same handle, for the calls that are made for every kind.
    @inline(__always)
    var asHandle: UnsafeMutablePointer<uv_handle_t> {
        unsafe UnsafeMutableRawPointer(self).assumingMemoryBound(to: uv_handle_t.self)
    }

    /// Closes the handle. The callback runs later, never inside this call, and may give the memory back.
    ///
    /// Closing twice aborts the process. Each owner closes once, where it gives up its pointer.
    func close(_ closed: @convention(c) (UnsafeMutablePointer<uv_handle_t>?) -> Void) {
        unsafe uv_close(asHandle, closed)
    }

    /// Whether the handle keeps the loop running.
    func setReferenced(_ referenced: Bool) {
        if referenced { unsafe uv_ref(asHandle) } else { unsafe uv_unref(asHandle) }
    }
}

extension Optional where Wrapped == UnsafeMutablePointer<uv_handle_t> {
    /// Gives a closed handle's memory back, allocated as a `Handle`. For close callbacks only.
    func deallocateHandle<Handle: UVHandle>(of kind: Handle.Type) {
        unsafe self?.withMemoryRebound(to: Handle.self, capacity: 1) { handle in unsafe handle.deallocate() }
    }
}
