/// A stream of bytes that repeats too late for a swap or a gap to go unnoticed: its seed says where it begins in one
/// table of random bytes, whose length is a prime.
struct Pattern {
    private let start: Int

    /// The largest prime below 65,536.
    static let period = 65_521

    /// Twice, so that every run of up to a period is in one piece.
    private static let table: ContiguousArray<UInt8> = {
        var random = SplitMix(seed: 1)
        let once = (0..<period).map { _ in UInt8.random(in: 0...255, using: &random) }
        return ContiguousArray(once + once)
    }()

    init(seed: UInt64) {
        start = Int(seed % UInt64(Self.period))
    }

    /// The bytes from `position` on; at most a period of them.
    func bytes(at position: Int, count: Int) -> ContiguousArray<UInt8>.SubSequence {
        let first = (start + position) % Self.period
        return Self.table[first..<first + min(count, Self.period)]
    }

    func array(_ count: Int) -> ArraySlice<UInt8> { ArraySlice(bytes(at: 0, count: count)) }

    func matches(_ received: ArraySlice<UInt8>, at position: Int) -> Bool {
        var rest = received
        var position = position
        while !rest.isEmpty {
            let expected = bytes(at: position, count: rest.count)
            guard expected.elementsEqual(rest.prefix(expected.count)) else { return false }
            rest = rest.dropFirst(expected.count)
            position += expected.count
        }
        return true
    }
}

/// splitmix64: the same numbers for the same seed on every run.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0xD134_2543_DE82_EF95 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
