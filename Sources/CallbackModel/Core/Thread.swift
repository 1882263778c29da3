package import Glibc

/// Begins a thread that runs `body`. The caller has to join or detach it. Throws pthread_create's error.
package func makeThread(_ body: @escaping @Sendable () -> Void) throws(IOError) -> pthread_t {
    // Retain 1, released by the thread.
    let argument = unsafe Unmanaged.passRetained(ThreadBody(run: body)).toOpaque()
    var thread = pthread_t()
    let status = unsafe pthread_create(
        &thread, nil,
        { argument in
            guard let argument = unsafe argument else { return nil }
            unsafe Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, argument)
    guard status == 0 else {
        unsafe Unmanaged<ThreadBody>.fromOpaque(argument).release()
        throw IOError(call: "pthread_create", errno: status)
    }
    return thread
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(run: @escaping @Sendable () -> Void) {
        self.run = run
    }
}
