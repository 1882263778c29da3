/// How much of what was written has left: the driver counts sealed bytes, and users count what they wrote. A write is
/// sent when the last byte of its record has left, since the peer can open no part of one.
struct SealedRecords {
    private struct Record {
        /// How many sealed bytes there were up to its end, since the layer began.
        let sealedEnd: Int
        /// The same of written bytes.
        let clearEnd: Int
    }

    /// Those that may still be in the driver's queue; the first `sentRecords` of them have left. They are removed when
    /// they are half, so that each costs constant time.
    private var records: [Record] = []
    private var sentRecords = 0
    private var sealed = 0
    private var clear = 0
    private var sentClear = 0
    /// How many of `clear` are in what is handed over next.
    private var sealing = 0
    /// Bytes in the driver's queue that were written before the layer began.
    private var unsealed: Int

    /// 16 KiB: the most that one record holds (RFC 8446, section 5.1).
    static let mostClear = 16 * 1024

    init(behind unsealed: Int) {
        self.unsealed = unsealed
    }

    /// How many written bytes have not left.
    var clearCount: Int { clear - sentClear + unsealed }

    /// `count` written bytes are sealed, and are handed over next. Without this call, what is handed over is the
    /// layer's own.
    mutating func willHandOver(_ count: Int) {
        clear += count
        sealing = count
    }

    /// The driver has `bytes`, and its queue holds `queued` bytes.
    mutating func handedOver(_ bytes: Span<UInt8>, queued: Int) {
        // Nothing is remembered of what has left at once.
        if queued > 0 { append(bytes, clear: sealing) }
        sealing = 0
        sealed += bytes.count
        queueChanged(to: queued)
    }

    private mutating func append(_ bytes: Span<UInt8>, clear count: Int) {
        if count == 0 { return }
        if count <= Self.mostClear {
            return records.append(Record(sealedEnd: sealed + bytes.count, clearEnd: clear))
        }
        var ends: [Int] = []
        var position = 0
        // Each record has a type, a version and its length in front (RFC 8446, section 5.2).
        while position + 5 <= bytes.count {
            position += 5 + Int(bytes[position + 3]) << 8 + Int(bytes[position + 4])
            ends.append(sealed + position)
        }
        // All but the last are full. Before them there may be records of the layer's own.
        var clearEnd = clear - count
        for end in ends.suffix((count + Self.mostClear - 1) / Self.mostClear) {
            clearEnd = min(clearEnd + Self.mostClear, clear)
            records.append(Record(sealedEnd: end, clearEnd: clearEnd))
        }
    }

    /// The driver's queue holds `queued` bytes now.
    mutating func queueChanged(to queued: Int) {
        unsealed = max(0, queued - sealed)
        if queued == 0 {
            sentClear = clear
            if records.isEmpty { return }
            records.removeAll(keepingCapacity: records.capacity <= Self.mostKept)
            return sentRecords = 0
        }
        let sent = sealed - queued
        while sentRecords < records.count, records[sentRecords].sealedEnd <= sent {
            sentClear = records[sentRecords].clearEnd
            sentRecords += 1
        }
        if sentRecords * 2 > records.count {
            records.removeFirst(sentRecords)
            sentRecords = 0
        }
    }

    /// Memory for the next queue: 64 records of 16 bytes.
    private static let mostKept = 64
}
