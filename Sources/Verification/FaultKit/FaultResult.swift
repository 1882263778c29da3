internal import Glibc

/// What a run under faults came to.
package struct FaultResult: Sendable {
    /// Faults that were injected, by kind.
    package var counts: [(kind: String, count: UInt64)] = []
    /// Scenarios, or cases of the sweep.
    package var played = 0
    /// Bytes of the echo traffic that came back, each compared; nothing where there was none.
    package var bytes: UInt64?
    /// Bytes that were sent and did not come back in their place.
    package var lost: UInt64 = 0
    /// Open descriptors at the beginning and at the end.
    package var descriptorsBefore = 0
    package var descriptorsAfter = 0
    /// The longest time that a peer waited for bytes it was owed; in the sweep, that a case took.
    package var longestStall: Duration = .zero
    /// What must not be, each with its seed or its plan.
    package var failures: [Failure] = []

    package struct Failure: Sendable {
        package let text: String
        /// Options of `parity` that play the case alone.
        package let repetition: String
    }

    package var injected: UInt64 { counts.reduce(0) { $0 + $1.count } }

    package var isWell: Bool {
        failures.isEmpty && lost == 0 && (descriptorsAfter <= descriptorsBefore || Self.isSanitized)
    }

    /// A sanitizer opens pipes to its symbolizer when it first wants to name a function. Each scenario and case is
    /// checked alone all the same.
    private static var isSanitized: Bool {
        unsafe dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil
    }

    package init() {}
}
