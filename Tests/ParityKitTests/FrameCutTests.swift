import ParityKit
import RandomCalls
import TestSupport
import Testing

/// The framers against a reader of one byte at a time. libFuzzer goes on from here (CONTRIBUTING.md).
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `Frames under every cut` {
    /// The bytes that mean something to a form, and one that does not.
    private static func alphabet(_ kind: FrameForm.Kind) -> [UInt8] {
        switch kind {
        case .newline, .crlf: [10, 13, 65]
        case .byte: [7, 10, 65]
        case .varint, .varintOfOne, .varintCountingItself: [0, 1, 2, 0x80]
        default: [0, 1, 2, 0xFF]
        }
    }

    /// Every stream of `count` bytes of an alphabet.
    private static func streams(_ alphabet: [UInt8], _ count: Int) -> [[UInt8]] {
        (0..<count).reduce([[]]) { streams, _ in streams.flatMap { stream in alphabet.map { stream + [$0] } } }
    }

    /// One difference tells enough.
    private func expectEqual(_ difference: String?) -> Bool {
        if let difference { Issue.record("\(difference.prefix(1_000))") }
        return difference == nil
    }

    @Test(arguments: FrameForm.Kind.allCases, [1, 3])
    func `of every short stream are those of one byte at a time`(kind: FrameForm.Kind, limit: Int) {
        let alphabet = Self.alphabet(kind)
        let longest = alphabet.count > 3 ? 4 : 5
        for stream in (1...longest).flatMap({ Self.streams(alphabet, $0) }) {
            let cuts = FrameCuts([FrameForm(kind, limit: limit)])
            guard expectEqual(cuts.difference(in: stream, all: true)) else { return }
        }
    }

    @Test(arguments: FrameForm.Kind.allCases, [0, 1, 2])
    func `are the same where the form changes and a callback pauses`(kind: FrameForm.Kind, pauseEvery: Int) {
        var random = SplitMix64(seed: 19)
        for other in FrameForm.Kind.allCases {
            let forms = [FrameForm(kind, limit: 4), FrameForm(other, limit: 300)]
            let alphabet = Self.alphabet(kind) + Self.alphabet(other)
            for _ in 0..<3 {
                let stream = (0..<Int.random(in: 1...12, using: &random)).map { _ in
                    alphabet.randomElement(using: &random) ?? 0
                }
                let cuts = FrameCuts(forms, changingEach: 1, pausingEach: pauseEvery)
                guard expectEqual(cuts.difference(in: stream)) else { return }
            }
        }
    }

    /// More frames than are told in one turn, and more bytes than a parser is given at once.
    @Test(arguments: FrameForm.Kind.allCases, [0, 1_000])
    func `of long streams are too`(kind: FrameForm.Kind, pauseEvery: Int) {
        let form = FrameForm(kind, limit: 10_000)
        let short = Array(repeatElement(form.frame(of: [65, 66]), count: 2_500).joined())
        let long = Array(repeatElement(form.frame(of: [UInt8](repeating: 65, count: 100)), count: 100).joined())
        let cuts = FrameCuts([form], pausingEach: pauseEvery)
        for stream in [short, long, long + short] {
            for place in [1, 2, 3, 4_095, 4_096, 4_097, stream.count / 2, stream.count - 1] {
                guard expectEqual(cuts.difference(in: stream, cutAt: [place, place + 4_500])) else { return }
            }
        }
    }

    /// Otherwise the tests above would mean nothing.
    @Test func `the comparison sees a difference`() {
        let forms = [FrameForm(.crlf, limit: 3), FrameForm(.newline, limit: 3)]
        #expect(FrameCuts([forms[0]]).difference(in: [65, 10, 66, 13, 10], all: true) == nil)
        #expect(FrameCuts([forms[0]], reference: [forms[1]]).difference(in: [65, 10, 66, 13, 10]) != nil)
        #expect(FrameCuts([FrameForm(.newline, limit: 1)], reference: [forms[1]]).difference(in: [65, 66, 10]) != nil)
    }
}
