import Foundation
import Synchronization

/// A thread that ends with a value.
final class Worker<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let isDone = DispatchSemaphore(value: 0)

    init(_ body: @escaping @Sendable () -> Value) {
        Thread.detachNewThread { [self] in
            let result = body()
            value.withLock { $0 = result }
            isDone.signal()
        }
    }

    /// Waits for the end; once.
    func wait() -> Value {
        isDone.wait()
        guard let result = value.withLock({ $0 }) else { preconditionFailure("a thread ended without a value") }
        return result
    }
}

/// A number or a yes that threads share.
final class Shared<Value: Sendable>: Sendable {
    private let state: Mutex<Value>

    init(_ value: Value) { state = Mutex(value) }

    var value: Value {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}

extension Shared where Value == Int {
    func add(_ count: Int = 1) { state.withLock { $0 += count } }
}

/// Sleeps; clients have their own pace.
func pause(_ time: Duration) {
    let (seconds, attoseconds) = time.components
    guard time > .zero else { return }
    var wanted = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
    var rest = timespec()
    while nanosleep(&wanted, &rest) != 0, errno == EINTR { wanted = rest }
}

extension Duration {
    var seconds: Double { self / .seconds(1) }
}

func descriptorLimit() -> Int {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_cur)
}

func setDescriptorLimit(_ count: Int) throws {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var limit = rlimit()
    try check("getrlimit", getrlimit(resource, &limit))
    limit.rlim_cur = min(rlim_t(count), limit.rlim_max)
    try check("setrlimit", setrlimit(resource, &limit))
}

/// What the figures depend on.
enum Machine {
    static var description: String {
        var names = utsname()
        uname(&names)
        let kernel = withUnsafePointer(to: &names.release) {
            $0.withMemoryRebound(to: CChar.self, capacity: 65) { String(cString: $0) }
        }
        return "libuv \(libuvVersion), kernel \(kernel), \(sysconf(Int32(_SC_NPROCESSORS_ONLN))) processors"
    }

    /// Asked of the library that this process has loaded; the public API has no need to tell it.
    private static var libuvVersion: String {
        typealias Version = @convention(c) () -> UnsafePointer<CChar>
        guard let symbol = dlsym(nil, "uv_version_string") else { return "unknown" }
        return String(cString: unsafeBitCast(symbol, to: Version.self)())
    }
}
