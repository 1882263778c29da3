import Testing

@testable import CallbackModel

@Suite struct `Byte reader and byte writer` {
    private let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 9]

    @Test func `integers are read in both orders, at odd places too`() {
        var reader = ByteReader(bytes.span)
        #expect(reader.integer(UInt8.self) == 1)
        #expect(reader.integer(UInt16.self) == 0x0203)
        #expect(reader.integer(littleEndian: UInt16.self) == 0x0504)
        #expect(reader.integer(UInt32.self) == 0x0607_0809)
        #expect(reader.remaining == 0 && reader.position == 9)
        var signed = ByteReader(([0xFF, 0xFE] as [UInt8]).span)
        #expect(signed.integer(Int16.self) == -2)
    }

    @Test func `too little is nil, and nothing has moved`() {
        var reader = ByteReader(bytes.span)
        reader.skip(7)
        #expect(reader.integer(UInt32.self) == nil)
        #expect(reader.integer(littleEndian: UInt64.self) == nil)
        if reader.bytes(3) != nil || reader.bytes(-1) != nil { Issue.record("bytes that are not there") }
        #expect(reader.string(3) == nil && reader.string(-1) == nil)
        let skipped = [reader.skip(3), reader.skip(-1), reader.skip(.max)]
        #expect(skipped == [false, false, false])
        #expect(reader.position == 7 && reader.remaining == 2)
        #expect(reader.integer(UInt16.self) == 0x0809)
    }

    @Test func `bytes are lent and text is copied`() {
        let text = Array("größe!".utf8)
        var reader = ByteReader(text.span)
        #expect(reader.string(8 - 1) == "größe")
        if let rest = reader.bytes(1) { #expect([UInt8](copying: rest) == [33]) } else { Issue.record("no byte") }
        var cut = ByteReader(text.span)
        // In the middle of a character.
        #expect(cut.string(3) == nil && cut.position == 0)
        #expect([UInt8](copying: cut.rest) == text)
    }

    @Test(arguments: [0, 1, 127, 128, 300, 16_383, 16_384, 268_435_455, UInt64(UInt32.max), .max - 1, .max])
    func `a varint reads back as it was written, and every part of it is too little`(value: UInt64) throws {
        var writer = ByteWriter()
        writer.varint(value)
        for count in 0..<writer.count {
            var reader = ByteReader(writer.bytes.span.extracting(first: count))
            #expect(try reader.varint() == nil && reader.position == 0)
        }
        var reader = ByteReader(writer.bytes.span)
        #expect(try reader.varint() == value)
        #expect(reader.remaining == 0)
    }

    @Test func `a varint that never ends is refused`() throws {
        let endless = [UInt8](repeating: 0x80, count: 20)
        for maxByteCount in [1, 4, 10] {
            let errno = overflow(of: endless, maxByteCount)
            #expect(errno == IOError.overflow)
        }
        // The tenth byte has one bit left.
        #expect(overflow(of: [UInt8](repeating: 0xFF, count: 9) + [2], 10) == IOError.overflow)
        #expect(overflow(of: [UInt8](repeating: 0xFF, count: 9) + [1], 10) == nil)
    }

    private func overflow(of bytes: [UInt8], _ maxByteCount: Int) -> Int32? {
        var reader = ByteReader(bytes.span)
        do throws(IOError) {
            _ = try reader.varint(maxByteCount: maxByteCount)
            return nil
        } catch {
            #expect(reader.position == 0)
            return error.errno
        }
    }

    @Test func `what is written reads back`() throws {
        var writer = ByteWriter(capacity: 64)
        writer.integer(UInt16(0x1234))
        writer.integer(littleEndian: UInt32(0x1234_5678))
        writer.string("naïve")
        writer.bytes([9, 8, 7])
        writer.bytes(bytes.span)
        var reader = ByteReader(writer.bytes.span)
        #expect(reader.integer(UInt16.self) == 0x1234)
        #expect(reader.integer(littleEndian: UInt32.self) == 0x1234_5678)
        #expect(reader.string(6) == "naïve")
        #expect(reader.integer(UInt8.self) == 9)
        reader.skip(2)
        if let rest = reader.bytes(9) { #expect([UInt8](copying: rest) == bytes) } else { Issue.record("no bytes") }
        writer.removeAll()
        #expect(writer.bytes.isEmpty)
    }

    private static let prefixes: [LengthPrefix] = [
        .uint8, .uint16, .uint32, .uint64, .uint16.littleEndian, .uint32.littleEndian, .uint64.littleEndian,
        .uint8.countingItself, .uint32.countingItself, .uint32.littleEndian.countingItself,
        .varint(), .varint(maxByteCount: 2), .varint().countingItself,
    ]

    @Test(arguments: prefixes, [0, 1, 126, 127, 128, 200])
    func `a length prefix reads back as it was written`(prefix: LengthPrefix, count: Int) throws {
        var writer = ByteWriter()
        writer.string("x")
        try writer.lengthPrefixed(as: prefix) { $0.bytes(repeatElement(7, count: count)) }
        var reader = ByteReader(writer.bytes.span)
        reader.skip(1)
        #expect(try prefix.length(from: &reader, limit: 200) == count)
        #expect(reader.remaining == count)
        // A limit below it refuses it before the message is there.
        var refused = ByteReader(writer.bytes.span.extracting(first: writer.count - count))
        refused.skip(1)
        if count > 0 {
            #expect(throws: IOError.self) { try prefix.length(from: &refused, limit: count - 1) }
        }
    }

    @Test func `a message that its prefix cannot count leaves what was written as it was`() {
        var writer = ByteWriter()
        writer.string("kept")
        #expect(throws: IOError.self) {
            try writer.lengthPrefixed(as: .uint8) { $0.bytes(repeatElement(0, count: 256)) }
        }
        #expect(throws: IOError.self) {
            try writer.lengthPrefixed(as: .varint(maxByteCount: 1)) { $0.bytes(repeatElement(0, count: 128)) }
        }
        #expect(throws: IOError.self) {
            try writer.lengthPrefixed(as: .uint8.countingItself) { $0.bytes(repeatElement(0, count: 255)) }
        }
        #expect(writer.bytes == Array("kept".utf8))
    }

    @Test func `a count below the prefix that it counts is refused`() {
        var reader = ByteReader(([0, 0, 0, 3] as [UInt8]).span)
        #expect(throws: IOError.self) { try LengthPrefix.uint32.countingItself.length(from: &reader, limit: 100) }
    }

    // MARK: Spans

    @Test func `bytes are found, compared and kept`() {
        let line = Array("GET key\0x".utf8)
        let places = [32, 0, 1].map { line.span.firstIndex(of: $0) }
        #expect(places == [3, 7, nil])
        let ofNone = Span<UInt8>().firstIndex(of: 0)
        #expect(ofNone == nil)
        let word = line.span.extracting(first: 3)
        let words = [word.elementsEqual("GET"), word.elementsEqual("GE"), word.elementsEqual("get")]
        #expect(words == [true, false, false])
        let same = [line.span.elementsEqual(line.span), line.span.elementsEqual(word), Span<UInt8>().elementsEqual("")]
        #expect(same == [true, false, true])
        var kept = [UInt8](copying: line.span.extracting(first: 3))
        kept.append(copying: line.span.extracting(first: 1))
        #expect(kept == Array("GETG".utf8))
        #expect(String(validating: line.span.extracting(first: 3)) == "GET")
        #expect(String(validating: ([0xC3] as [UInt8]).span) == nil && String(validating: Span<UInt8>()) == "")
    }
}
