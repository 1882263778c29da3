internal import Glibc

/// Bytes that a script sends or expects: text, or a pattern that is written down by its seed and its length.
public struct Payload: Hashable, Sendable, ExpressibleByStringLiteral {
    enum Part: Hashable, Sendable {
        case text(String)
        case pattern(seed: UInt64, count: Int)
        case bytes([UInt8])
    }

    let parts: [Part]

    /// The UTF-8 bytes of a literal.
    public init(stringLiteral value: String) {
        parts = [.text(value)]
    }

    init(parts: [Part]) {
        self.parts = parts
    }

    /// No bytes.
    public static let nothing = Payload(parts: [])

    /// The UTF-8 bytes of `text`.
    public static func text(_ text: String) -> Payload {
        Payload(parts: [.text(text)])
    }

    /// `count` bytes that look like noise and are the same for the same seed.
    public static func pattern(_ seed: UInt64, count: Int) -> Payload {
        Payload(parts: [.pattern(seed: seed, count: count)])
    }

    /// Bytes one by one.
    public static func bytes(_ bytes: [UInt8]) -> Payload {
        Payload(parts: [.bytes(bytes)])
    }

    /// One behind the other.
    public static func + (left: Payload, right: Payload) -> Payload {
        Payload(parts: left.parts + right.parts)
    }

    /// How many bytes it has.
    public var count: Int {
        parts.reduce(0) { sum, part in
            switch part {
            case .text(let text): sum + text.utf8.count
            case .pattern(_, let count): sum + count
            case .bytes(let bytes): sum + bytes.count
            }
        }
    }

    /// The bytes themselves.
    public var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        for part in parts {
            switch part {
            case .text(let text): bytes += Array(text.utf8)
            case .pattern(let seed, let count): Self.append(seed, count, to: &bytes)
            case .bytes(let more): bytes += more
            }
        }
        return bytes
    }

    /// A prime, so that a piece that is lost or doubled shows: no size of a buffer divides it.
    private static let period = 65_521

    private static func append(_ seed: UInt64, _ count: Int, to bytes: inout [UInt8]) {
        var random = SplitMix(seed: seed)
        var block: [UInt8] = []
        let length = min(count, period)
        block.reserveCapacity(length + 7)
        while block.count < length {
            var word = random.next()
            for _ in 0..<8 {
                block.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
            }
        }
        block.removeLast(block.count - length)
        var left = count
        while left >= block.count, left > 0 {
            bytes += block
            left -= block.count
        }
        bytes += block[..<left]
    }
}

extension Payload: CustomStringConvertible {
    /// As it is written in Swift.
    public var description: String {
        if parts.isEmpty { return ".nothing" }
        return parts.map { part in
            switch part {
            case .text(let text): ".text(\(text.debugDescription))"
            case .pattern(let seed, let count): ".pattern(\(seed), count: \(count))"
            case .bytes(let bytes): ".bytes(\(bytes))"
            }
        }.joined(separator: " + ")
    }
}

/// The same numbers for the same seed, on every machine.
package struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// What is kept of a stream of bytes, which may be far too long to be kept itself.
struct StreamDigest {
    /// So many bytes at the front are kept, to be shown when they are all there is.
    static let keptCount = 64

    private(set) var count = 0
    private(set) var head: [UInt8] = []
    /// Where the stream first differs from what it has to be a prefix of.
    private(set) var firstDifference: Int?

    private let reference: [UInt8]?
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325
    private var word: UInt64 = 0
    private var wordCount = 0

    /// With a reference, the stream is compared with it as it comes.
    init(prefixOf reference: [UInt8]? = nil) {
        self.reference = reference
    }

    /// The same for the same bytes, however they were cut.
    var hash: UInt64 {
        var digest = self
        digest.mix(digest.word ^ UInt64(count) &<< 56)
        return digest.state
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        if head.count < Self.keptCount { unsafe head.append(contentsOf: bytes.prefix(Self.keptCount - head.count)) }
        unsafe compare(bytes)
        count += bytes.count
        var position = 0
        while position < bytes.count {
            if wordCount == 0, bytes.count - position >= 8 {
                mix(unsafe bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
                position += 8
                continue
            }
            word |= unsafe UInt64(bytes[position]) &<< UInt64(8 * wordCount)
            wordCount += 1
            position += 1
            if wordCount == 8 {
                mix(word)
                word = 0
                wordCount = 0
            }
        }
    }

    mutating func append(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe append($0) }
    }

    private mutating func mix(_ word: UInt64) {
        state = (state ^ word) &* 0x9E37_79B9_7F4A_7C15
        state ^= state &>> 29
    }

    private mutating func compare(_ bytes: UnsafeRawBufferPointer) {
        guard let reference, firstDifference == nil else { return }
        let common = max(0, min(bytes.count, reference.count - count))
        let isSame = unsafe reference.withUnsafeBytes { reference in
            guard common > 0, let mine = bytes.baseAddress, let other = reference.baseAddress else {
                return true
            }
            return unsafe memcmp(mine, other + count, common) == 0
        }
        if !isSame {
            for index in 0..<common where unsafe bytes[index] != reference[count + index] {
                firstDifference = count + index
                return
            }
        }
        if common < bytes.count { firstDifference = reference.count }
    }
}
