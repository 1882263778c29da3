import Glibc
public import Testing

extension Trait where Self == OwnThread {
    /// Runs each test on a thread of its own, up to 16 beside each other, under a sanitizer 4.
    ///
    /// Most tests wait for a peer. Swift's pool has one thread a core, so that two waiting tests would hold up all the
    /// others.
    public static var onOwnThread: Self { OwnThread() }
}

extension Trait where Self == Heavy {
    /// Takes half of the places: the test holds real time to limits of some 100 ms, or fills a core for long.
    public static var heavy: Self { Heavy() }
}

/// Runs each test on a thread of its own; ``Testing/Trait/onOwnThread``.
public struct OwnThread: TestTrait, SuiteTrait, TestScoping {
    /// For the tests of a suite too.
    public var isRecursive: Bool { true }

    /// Waits for a place, then runs the test on a thread that it has made for it.
    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let places = test.traits.contains { $0 is Heavy } ? Places.count / 2 : 1
        await Places.shared.take(places)
        let thread = ThreadExecutor()
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(try await withTaskExecutorPreference(thread) { try await function() })
        } catch {
            outcome = .failure(error)
        }
        thread.stop()
        await Places.shared.giveBack(places)
        try outcome.get()
    }
}

/// Marks a test for ``OwnThread``; ``Testing/Trait/heavy``.
public struct Heavy: TestTrait, SuiteTrait {
    /// For the tests of a suite too.
    public var isRecursive: Bool { true }
}

/// How many tests run beside each other. A test that needs one place passes those that wait for several, so that no
/// place stays empty while they wait. At the end only heavy tests are left, and two of them fill two cores.
private actor Places {
    static let shared = Places()
    /// 16: enough that waiting costs little time, few enough that two cores keep the tests' own time limits. 4 under a
    /// sanitizer, where the same tests mostly compute.
    static let count = isSanitized ? 4 : 16

    private var free = count
    private var waiting: [(places: Int, continuation: CheckedContinuation<Void, Never>)] = []

    func take(_ places: Int) async {
        if free >= places {
            free -= places
            return
        }
        await withCheckedContinuation { waiting.append((places, $0)) }
    }

    func giveBack(_ places: Int) {
        free += places
        while let next = waiting.firstIndex(where: { $0.places <= free }) {
            let (places, continuation) = waiting.remove(at: next)
            free -= places
            continuation.resume()
        }
    }
}

/// Runs the jobs of one task on one thread.
private final class ThreadExecutor: TaskExecutor {
    private struct State {
        var jobs: [UnownedJob] = []
        var isStopped = false
    }

    private let state = Monitor(State())

    init() {
        startDetachedThread { [self] in
            while let job = next() { job.runSynchronously(on: asUnownedTaskExecutor()) }
        }
    }

    /// Waits for a job; `nil` once the executor has stopped.
    private func next() -> UnownedJob? {
        let found = state.wait { state -> UnownedJob?? in
            if !state.jobs.isEmpty { return state.jobs.removeFirst() }
            return state.isStopped ? .some(nil) : nil
        }
        return found
    }

    func enqueue(_ job: UnownedJob) { state.withLock { $0.jobs.append(job) } }

    func stop() { state.withLock { $0.isStopped = true } }
}
