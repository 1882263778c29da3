import ArgumentParser
import CallbackServer
import Foundation
import Synchronization

/// What the server can be told to do wrongly, so that each run is seen to fail (`--break`).
enum Fault: String, CaseIterable, ExpressibleByArgument {
    /// Now and then the last byte of an echo is missing.
    case dropsBytes = "drops-bytes"
    /// Now and then a byte of an echo is another one.
    case changesBytes = "changes-bytes"
    /// Of each hundred connections one leaves a descriptor behind.
    case leaksDescriptors = "leaks-descriptors"
    /// Each connection leaves a kibibyte behind.
    case leaksMemory = "leaks-memory"
    /// The queues of those who do not read grow without bound.
    case hoards = "hoards"
    /// The loop never waits.
    case spins = "spins"
    /// One callback in fifty takes 3 ms.
    case dawdles = "dawdles"
    /// One client too many is counted at each shedding.
    case miscountsShed = "miscounts-shed"
    /// SIGTERM ends the loop without a drain.
    case endsAtOnce = "ends-at-once"

    private static let callbacks = Atomic<Int>(0)
    private static let leaked = Mutex<[[UInt8]]>([])

    /// Whether the next echo is done by `echoWrongly`.
    func strikes(_ count: Int) -> Bool {
        switch self {
        case .dropsBytes, .changesBytes, .dawdles:
            Self.callbacks.wrappingAdd(1, ordering: .relaxed).newValue.isMultiple(of: 50)
        case .leaksDescriptors, .leaksMemory, .hoards, .spins, .miscountsShed, .endsAtOnce: false
        }
    }

    func echoWrongly(_ connection: Connection, _ bytes: Span<UInt8>) {
        var answer: [UInt8] = []
        for index in bytes.indices { answer.append(bytes[index]) }
        switch self {
        case .dropsBytes: answer.removeLast()
        case .changesBytes: answer[answer.count - 1] ^= 1
        default: usleep(3_000)
        }
        connection.write(answer)
    }

    /// After so many connections.
    func leak(after count: Int) {
        switch self {
        case .leaksDescriptors: if count.isMultiple(of: 100) { _ = open("/dev/null", O_RDONLY) }
        case .leaksMemory: Self.leaked.withLock { $0.append([UInt8](repeating: 1, count: 1_024)) }
        default: break
        }
    }
}
