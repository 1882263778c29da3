#if FUZZING
    import CallbackServer
    import Glibc
    import ParityKit
    import RandomCalls

    // Built with FUZZING and libFuzzer, which brings a `main` of its own, this program is a fuzzer of the
    // random calls, and with FUZZING_FRAMES of the framers; CONTRIBUTING.md has the commands.

    private let participants = Engine.allCases.map(Participant.init(engine:))

    /// What libFuzzer calls with each input: the same sequence on every engine (llvm.org/docs/LibFuzzer.html).
    @_cdecl("LLVMFuzzerTestOneInput")
    public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        let sequence = unsafe Array(UnsafeBufferPointer(start: data, count: count))
        #if FUZZING_FRAMES
            guard let difference = FrameCuts.difference(inFuzzed: sequence) else { return 0 }
            Terminal.printLine(difference)
            abort()
        #else
            return play(sequence)
        #endif
    }

    private func play(_ sequence: [UInt8]) -> CInt {
        for participant in participants {
            let violations = CallSequence.play(sequence, on: participant, isAlone: true)
            guard !violations.isEmpty else { continue }
            Terminal.printLine("\(participant.name): " + violations.joined(separator: "\n  "))
            // The fuzzer then writes the input to a file, for `parity --calls-file`.
            abort()
        }
        return 0
    }
#endif
