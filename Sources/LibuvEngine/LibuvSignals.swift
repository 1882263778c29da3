@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import LinuxSockets

/// One loop's end of the process's signal relay: a counter that the relay raises, watched by the loop.
///
/// Not `uv_signal_t`: that would replace a signal's handler for the loops of the other engines, and never restore it.
@safe final class LibuvSignals {
    private let counter: Counter
    private var receiver: SignalReceiver?
    private var polled: PolledDescriptor?

    /// Throws EMFILE, ENFILE or ENOMEM, and ENOSPC if 64 loops watch signals already.
    init(loop: LibuvLoop) throws(IOError) {
        counter = try Counter()
        do throws(IOError) {
            polled = try PolledDescriptor(loop: loop, counter.descriptor) { [unowned self] in becameReady() }
            receiver = try SignalReceiver(counter: counter) { [unowned self] in referenceChanged() }
        } catch {
            close()
            throw error
        }
        referenceChanged()
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
        polled?.setReferenced(receiver?.isReferenced ?? false)
    }

    func close() {
        guard let polled else { return counter.close() }
        self.polled = nil
        polled.close()
        receiver?.close()
        counter.close()
    }
}
