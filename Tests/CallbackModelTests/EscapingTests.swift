import TestSupport
import Testing

@testable import CallbackModel

@Suite struct `Text from outside` {
    @Test(
        arguments: [
            ("", ""), ("plain, naïve 漢字 한글 🙂", "plain, naïve 漢字 한글 🙂"), ("back\\slash", "back\\\\slash"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"), ("\u{0}\u{1b}[2J\u{7f}\u{9b}", "\\u{0}\\u{1b}[2J\\u{7f}\\u{9b}"),
            // What turns the direction around, joins, or has no width (UAX #9; Default_Ignorable_Code_Point).
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"), ("a\u{200b}b\u{200d}c", "a\\u{200b}b\\u{200d}c"),
            ("a\u{fe0f}b\u{e0100}c\u{34f}", "a\\u{fe0f}b\\u{e0100}c\\u{34f}"),
            ("\u{115f}\u{1160}\u{3164}\u{ffa0}", "\\u{115f}\\u{1160}\\u{3164}\\u{ffa0}"),
            ("\u{2028}\u{2029}\u{feff}\u{ad}", "\\u{2028}\\u{2029}\\u{feff}\\u{ad}"),
            ("\u{e000}\u{10ffff}\u{378}", "\\u{e000}\\u{10ffff}\\u{378}"),
            // A mark needs something to stand on, which is not what we print around it.
            ("\u{301}a\u{301}\n\u{301}", "\\u{301}a\u{301}\\n\\u{301}"),
        ])
    func `is escaped where it cannot be seen or would move what is seen`(text: String, shown: String) {
        #expect(String(escaping: text) == shown)
        #expect(String(escaping: text[...]) == shown)
        #expect(String(escaping: Array(text.utf8).span) == shown)
        #expect([UInt8](unescaping: shown) == Array(text.utf8))
    }

    @Test func `is shown byte by byte where it is no UTF-8`() {
        let bytes: [UInt8] = [0x61, 0xff, 0xc3, 0x28, 0x09, 0xed, 0xa0, 0x80]
        #expect(String(escaping: bytes.span) == "a\\xff\\xc3(\\t\\xed\\xa0\\x80")
        #expect([UInt8](unescaping: String(escaping: bytes)) == bytes)
    }

    @Test func `is cut between two characters`() {
        let bytes = Array("aéb\u{1b}".utf8)
        let shown = (-1...6).map { String(escaping: bytes.span, limit: $0) }
        #expect(shown == ["", "", "a", "a", "aé", "aéb", "aéb\\u{1b}", "aéb\\u{1b}"])
        #expect(String(escaping: Array("aé".utf8).span.extracting(first: 2)) == "a\\xc3")
    }

    /// Any bytes, and bytes that are much like escapes.
    @Test func `reads back as itself, and is one line`() {
        for seed in UInt64(1)...2_000 {
            var bytes = pseudoRandomBytes(count: Int(seed % 120), seed: seed)
            if seed % 2 == 0 {
                let letters = Array("\\\\\\xu{}01fn@\u{301}é\u{202e}".utf8)
                bytes = bytes.map { letters[Int($0) % letters.count] }
            }
            let shown = String(escaping: bytes)
            #expect([UInt8](unescaping: shown) == bytes, "seed \(seed)")
            #expect(!shown.unicodeScalars.contains { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) })
        }
    }

    @Test(arguments: [
        "\\", "a\\", "\\a", "\\x", "\\x1", "\\xg0", "\\u", "\\u{", "\\u{}", "\\u{1", "\\u{d800}", "\\u{110000}",
        "\\u{0000001}", "\\N", "\\u{-1}",
    ])
    func `is refused on its way back where a backslash begins no escape`(text: String) {
        #expect([UInt8](unescaping: text) == nil)
    }
}
