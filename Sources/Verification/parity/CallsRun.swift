import Glibc
import ParityKit
import RandomCalls

/// Random calls from everywhere, by seed, on each participant; the first sequence at fault is shortened and told.
struct CallsRun {
    let participants: [Participant]

    /// Plays so many sequences on each; whether all are well.
    func run(count: Int, seed: UInt64) -> Bool {
        var isWell = true
        for participant in participants {
            let start = ContinuousClock.now
            var played = 0
            for offset in 0..<UInt64(count) {
                if offset.isMultiple(of: 500) {
                    Terminal.progress("\(participant.name): \(offset) of \(count) sequences")
                }
                let sequence = CallSequence.random(seed: seed &+ offset)
                let violations = CallSequence.play(sequence, on: participant, isAlone: true)
                played += 1
                guard !violations.isEmpty else { continue }
                Terminal.progress("")
                tell(sequence, violations, participant, "parity --calls 1 --seed \(seed &+ offset)")
                isWell = false
                break
            }
            Terminal.progress("")
            Terminal.printLine(
                "\(participant.name): \(played) call sequences from seed \(seed) in "
                    + "\((ContinuousClock.now - start).milliseconds) ms")
        }
        return isWell
    }

    /// Plays the sequence that a file holds; whether it is well.
    func run(file: String) -> Bool {
        guard let sequence = contents(of: file) else {
            Terminal.printLine("cannot read \(file): \(unsafe String(cString: strerror(errno)))")
            return false
        }
        var isWell = true
        for participant in participants {
            let violations = CallSequence.play(sequence, on: participant, isAlone: true)
            if violations.isEmpty {
                Terminal.printLine("\(participant.name): \(file) is well")
            } else {
                tell(sequence, violations, participant, "parity --calls-file \(file)")
                isWell = false
            }
        }
        return isWell
    }

    private func tell(_ sequence: [UInt8], _ violations: [String], _ participant: Participant, _ command: String) {
        Terminal.printLine("\(participant.name): " + violations.joined(separator: "\n  "))
        let short = CallSequence.shrink(sequence, on: participant, isAlone: true)
        let steps = CallSequence.steps(of: short, on: participant).map { "  \($0)" }
        let names = participant.name.split(separator: " ")
        Terminal.printLine(
            "Again with: \(command) --engine \(names[0])" + names.dropFirst().map { " --\($0)" }.joined())
        Terminal.printLine("Shortened to \(short.count) of \(sequence.count) bytes, which do this:")
        Terminal.printLine(steps.joined(separator: "\n"))
        let digits = short.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        Terminal.printLine("Into a file, for --calls-file: printf \(digits) | xxd -r -p")
    }

    /// A fuzzer's inputs are small.
    private static let largestFile = 1 << 20

    private func contents(of path: String) -> [UInt8]? {
        let file = unsafe open(path, O_RDONLY)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: Self.largestFile)
        let count = unsafe read(file, &bytes, bytes.count)
        return count >= 0 ? Array(bytes[..<count]) : nil
    }
}
