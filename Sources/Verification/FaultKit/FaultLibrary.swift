internal import CallbackModel
internal import Glibc
package import ParityKit

/// Which faults are injected; the text is what `Sources/Verification/CFaults/include/CFaults.h` describes.
package enum FaultPlan: Hashable, Sendable, CustomStringConvertible {
    /// Nothing fails.
    case off
    /// Faults that must change nothing: about one call in `every` meets one.
    case soft(seed: UInt64, every: Int)
    /// The call with number `at` fails with `errno`, once or from then on.
    case hard(call: String, errno: String, at: Int, isForEver: Bool)

    /// A hard plan from its text.
    package init?(hard text: String) {
        var values: [Substring: Substring] = [:]
        var words = text.split(separator: " ")[...]
        guard words.popFirst() == "hard" else { return nil }
        for word in words {
            let parts = word.split(separator: "=", maxSplits: 1)
            values[parts[0]] = parts.count == 2 ? parts[1] : ""
        }
        guard let call = values["call"], let errno = values["errno"], let number = values["at"].flatMap({ Int($0) })
        else { return nil }
        self = .hard(call: String(call), errno: String(errno), at: number, isForEver: values["for-ever"] != nil)
    }

    package var description: String {
        switch self {
        case .off: "off"
        case .soft(let seed, let every): "soft seed=\(seed) every=\(every)"
        case .hard(let call, let errno, let number, let isForEver):
            "hard call=\(call) errno=\(errno) at=\(number)\(isForEver ? " for-ever" : "")"
        }
    }
}

/// The library of `Sources/Verification/CFaults`, which has to have been loaded before libc.
@safe package struct FaultLibrary: Sendable {
    private let set: @convention(c) (UnsafePointer<CChar>) -> Int32
    private let arm: @convention(c) (Int32) -> Void
    private let count: @convention(c) () -> UInt64
    private let report: @convention(c) (UnsafeMutablePointer<CChar>, Int) -> Int

    /// Its file, beside the executables of this package.
    package static let fileName = "libCFaults.so"

    /// Room for a line of each kind of fault.
    private static let reportSize = 4_096

    /// Nothing where the library was not loaded.
    package init?() {
        guard let set = unsafe dlsym(nil, "faults_set"), let arm = unsafe dlsym(nil, "faults_arm"),
            let count = unsafe dlsym(nil, "faults_injected"), let report = unsafe dlsym(nil, "faults_report")
        else { return nil }
        unsafe self.set = unsafeBitCast(set, to: (@convention(c) (UnsafePointer<CChar>) -> Int32).self)
        unsafe self.arm = unsafeBitCast(arm, to: (@convention(c) (Int32) -> Void).self)
        unsafe self.count = unsafeBitCast(count, to: (@convention(c) () -> UInt64).self)
        unsafe self.report = unsafeBitCast(
            report, to: (@convention(c) (UnsafeMutablePointer<CChar>, Int) -> Int).self)
    }

    /// The participant, whose loops meet the faults of `plan` from their making on; nobody else's calls do.
    package func hitting(
        _ participant: Participant, _ plan: FaultPlan, named name: String? = nil
    ) -> Participant {
        Participant(name ?? participant.name) { options throws(IOError) in
            begin(plan)
            return try participant.makeLoop(options)
        }
    }

    /// Whether it knows what to do by the plan.
    package func understands(_ plan: FaultPlan) -> Bool {
        let isKnown = unsafe set(plan.description) == 0
        _ = unsafe set(FaultPlan.off.description)
        return isKnown
    }

    /// From here on the calls of this thread are hit; the count of calls begins anew.
    package func begin(_ plan: FaultPlan) {
        let status = unsafe set(plan.description)
        require(status == 0, "faults_set refuses \"\(plan)\"")
        arm(1)
    }

    /// Whether the calls of this thread are hit.
    package func setArmed(_ isArmed: Bool) {
        arm(isArmed ? 1 : 0)
    }

    /// How many faults this process has met.
    package var injected: UInt64 { count() }

    /// How many of each kind, such as `["read EINTR": 7]`.
    package var counts: [(kind: String, count: UInt64)] {
        let text = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.reportSize) { room in
            guard let base = room.baseAddress else { return "" }
            _ = unsafe report(base, room.count)
            return unsafe String(cString: base)
        }
        return text.split(separator: "\n").compactMap { line in
            guard let space = line.lastIndex(of: " ") else { return nil }
            return UInt64(line[line.index(after: space)...]).map { (String(line[..<space]), $0) }
        }
    }
}
