import CallbackServer
import Glibc

/// What it costs to have something done on a loop from another thread: `crossing COUNT` asks COUNT times with
/// `waker.execute`, and prints the processor time of both threads for each, in nanoseconds.
@main
struct Crossing {
    static func main() throws(IOError) {
        guard CommandLine.arguments.count == 2, let count = Int(CommandLine.arguments[1]), count > 0 else {
            print("usage: crossing COUNT")
            exit(64)
        }
        let loop = try EventLoop()
        let counter = Counter()
        let bound = LoopBound(Loop(loop), on: loop)
        let hold = loop.hold()
        let waker = loop.waker
        let before = processorTime()
        let thread = Thread {
            // The bodies capture one object, as those of a program do. It is opened by the loop alone.
            for _ in 0..<count - 1 { waker.execute { counter.value &+= 1 } }
            bound.execute { $0.loop.stop() }
        }
        try loop.run()
        let time = processorTime() - before
        thread.join()
        hold.release()
        guard counter.value == count - 1 else { fatalError("only \(counter.value) of \(count) came") }
        print(time / count)
    }

    struct Loop {
        unowned let loop: EventLoop

        init(_ loop: EventLoop) { self.loop = loop }
    }

    /// Of the loop's thread alone, while it runs.
    final class Counter: @unchecked Sendable {
        var value = 0
    }

    /// Of all threads, in nanoseconds (clock_gettime(2)).
    static func processorTime() -> Int {
        var time = timespec()
        unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// A thread that runs one closure.
    struct Thread {
        private var thread = pthread_t()

        init(_ body: @escaping @Sendable () -> Void) {
            let argument = unsafe Unmanaged.passRetained(Body(run: body)).toOpaque()
            let status = unsafe pthread_create(
                &thread, nil,
                { argument in
                    unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, argument)
            guard status == 0 else { fatalError("pthread_create: \(status)") }
        }

        func join() { pthread_join(thread, nil) }

        private final class Body {
            let run: @Sendable () -> Void
            init(run: @escaping @Sendable () -> Void) { self.run = run }
        }
    }
}
