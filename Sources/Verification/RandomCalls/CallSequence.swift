internal import Glibc
package import ParityKit

/// Random calls from everywhere: every public call, on open and closed objects, from inside every callback, against a
/// small model of the callback contract.
///
/// A sequence of bytes says what is called, so that a generator of random numbers and a fuzzer can both write it. It
/// plays alone in its thread: loops, connections and their peers' sockets.
package enum CallSequence {
    /// The sequence of this seed, always the same.
    package static func random(seed: UInt64) -> [UInt8] {
        // Neighbouring seeds would give neighbouring first numbers to a generator that only counts.
        var random = SplitMix(seed: seed &* 0xD134_2543_DE82_EF95)
        let count = Int.random(in: lengths, using: &random)
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    }

    private static let lengths = 20...400

    /// Plays `sequence` on `participant`; gives what was not as the contract says, which is nothing if all is well.
    ///
    /// With `isAlone`, which says that no other thread of the process opens descriptors meanwhile, a sequence that
    /// leaves more of them open than there were, each time it is played, is at fault too.
    package static func play(
        _ sequence: [UInt8], on participant: Participant, within limit: Duration = .seconds(20), isAlone: Bool = false
    ) -> [String] {
        Parity.leaving(isAlone: isAlone) {
            let machine = CallMachine(sequence, participant, limit)
            machine.play()
            return machine.overseer.violations
        } describe: { violations, left in
            violations + ["clause 16: \(left) descriptors were left open"]
        }
    }

    /// What is done in the course of `sequence`, a line each; as `play`, and for one that has failed.
    package static func steps(of sequence: [UInt8], on participant: Participant) -> [String] {
        let machine = CallMachine(sequence, participant, shrinkingLimit)
        machine.writesSteps = true
        machine.play()
        return machine.steps + machine.overseer.violations.map { "at fault: \($0)" }
    }

    /// One that hangs has failed after so long: good ones take milliseconds.
    private static let shrinkingLimit: Duration = .seconds(1)

    /// Leaves out bytes of a sequence that fails for as long as it goes on failing and `limit` allows.
    package static func shrink(
        _ sequence: [UInt8], on participant: Participant, within limit: Duration = .seconds(60), isAlone: Bool = false
    ) -> [UInt8] {
        let deadline = ContinuousClock.now + limit
        var best = sequence
        var size = max(1, best.count / 2)
        while size > 0 {
            var start = 0
            var hasChanged = false
            while start < best.count, ContinuousClock.now < deadline {
                var shorter = best
                shorter.removeSubrange(start..<min(start + size, best.count))
                if !play(shorter, on: participant, within: shrinkingLimit, isAlone: isAlone).isEmpty {
                    best = shorter
                    hasChanged = true
                } else {
                    start += size
                }
            }
            if size > 1 || !hasChanged { size /= 2 }
            if ContinuousClock.now >= deadline { break }
        }
        return best
    }
}

/// A sequence of bytes that answers questions; once read to its end, it answers each with 0.
struct Tape {
    private let bytes: [UInt8]
    private var position = 0
    private var end: Int

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        end = bytes.count
    }

    var isOver: Bool { position >= end }

    mutating func next() -> Int {
        guard !isOver else { return 0 }
        position += 1
        return Int(bytes[position - 1])
    }

    /// One of so many; 0 for none.
    mutating func next(below count: Int) -> Int { count > 0 ? next() % count : 0 }

    mutating func chance(_ count: Int, of all: Int) -> Bool { next() % all < count }

    /// From here on it is over, until the next part.
    mutating func stop() { end = position }

    /// Goes on to the end of a part, which is one of so many alike.
    mutating func go(through part: Int, of parts: Int) { end = bytes.count * (part + 1) / parts }
}
