/// The same bytes for the same seed on every run, eight a step.
public func pseudoRandomBytes(count: Int, seed: UInt64 = 1) -> [UInt8] {
    precondition(count >= 0, "count \(count) is negative")
    // The array below would write its count of 0 into the one empty array of the process, which others read.
    guard count > 0 else { return [] }
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
        let bytes = UnsafeMutableRawBufferPointer(buffer)
        var random = SplitMix64(seed: seed)
        var offset = 0
        while offset + 8 <= count {
            bytes.storeBytes(of: random.next(), toByteOffset: offset, as: UInt64.self)
            offset += 8
        }
        var last = random.next()
        while offset < count {
            bytes[offset] = UInt8(truncatingIfNeeded: last)
            last >>= 8
            offset += 1
        }
        initializedCount = count
    }
}

/// The same numbers for the same seed on every run: splitmix64.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).
public struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    /// The numbers of this seed.
    public init(seed: UInt64) { state = seed }

    /// One step.
    @inline(__always)
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed &>> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed &>> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed &>> 31)
    }
}
