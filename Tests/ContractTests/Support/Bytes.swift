import Glibc
import TestSupport

/// Whether two arrays are the same: `==` would look at megabytes byte by byte in a debug build.
func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count, !left.isEmpty else { return left.count == right.count }
    return memcmp(left, right, left.count) == 0
}

extension PlainClient {
    /// Receives until FIN; the place of the first byte that is not as in `block` repeated, which is where the
    /// stream ended if all before it is well.
    func firstDifference(fromRepeated block: [UInt8]) throws -> Int {
        var position = 0
        while true {
            let piece = try receiveSome(max: 1 << 20)
            if piece.isEmpty { return position }
            var checked = 0
            while checked < piece.count {
                let start = (position + checked) % block.count
                let length = min(piece.count - checked, block.count - start)
                let isSame = piece.withUnsafeBytes { piece in
                    block.withUnsafeBytes { memcmp(piece.baseAddress! + checked, $0.baseAddress! + start, length) == 0 }
                }
                if !isSame { return position + checked }
                checked += length
            }
            position += piece.count
        }
    }
}
