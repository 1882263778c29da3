internal import CallbackModel

extension Scenario {
    private static let clause = "contract, clause 19"
    /// Messages of three bytes, of none and of 300, cut behind the first byte of the last one's length, and in its
    /// middle.
    private static let parts: [Payload] = [
        .bytes([0, 3]) + "one" + .bytes([0, 0, 1]), .bytes([44]) + .pattern(1, count: 150), .pattern(2, count: 150),
    ]
    private static let messages = parts[0] + parts[1] + parts[2]

    static let framing: [Scenario] = [
        Scenario(
            "frames_lines_in_parts", source: clause, clauses: [3, 19],
            handler: .script(Script(.echo, framing: .lines(limit: 100))),
            peers: [Peer(.send("on"), .send("e\n\ntw"), .send("o"), .send("\n"), .read(9), .halfClose, .readToEnd)],
            expected: [.echo(of: "one\n\ntwo\n")]),
        Scenario(
            "frames_messages_in_parts", source: clause, clauses: [3, 19],
            handler: .script(Script(.echo, framing: .messages(limit: 300))),
            peers: [
                Peer(
                    .send(parts[0]), .wait(.received(7)), .send(parts[1]), .send(parts[2]), .read(309), .halfClose,
                    .readToEnd)
            ],
            expected: [.echo(of: messages)]),
        Scenario(
            "frames_many_of_one_read", source: clause + ": at most 1,024 frames a turn", clauses: [7, 14, 19],
            handler: .script(Script(.echo, framing: .lines(limit: 1))),
            peers: [.echoed(.bytes([UInt8](repeating: 10, count: 10_000)))],
            expected: [.echo(of: .bytes([UInt8](repeating: 10, count: 10_000)))]),
        Scenario(
            "frames_pause_holds_the_next", source: clause, clauses: [3, 19],
            handler: .script(
                Script(
                    .echo,
                    [
                        .on(
                            .received(4), .pause, .note("paused"),
                            .startTimer(1, milliseconds: 20, [.note("resumed"), .resume])),
                        .on(.received(8), .note("two")),
                    ], framing: .lines(limit: 100))),
            peers: [Peer(.send("one\ntwo\n"), .read(8), .halfClose, .readToEnd)],
            expected: [.echo(of: "one\ntwo\n")], notes: ["paused", "resumed", "two"]),
        Scenario(
            "frames_close_holds_at_the_frame", source: clause, clauses: [8, 19],
            handler: .script(Script(.echo, [.on(.received(4), .close)], framing: .lines(limit: 100))),
            peers: [Peer(.send("one\n"), .readToEnd)],
            expected: [.init(received: .exactly("one\n"), closing: .localClose, peer: .exactly("one\n"), .end)]),
        Scenario(
            "frames_too_long", source: clause + ": EMSGSIZE", clauses: [19],
            handler: .script(Script(.echo, framing: .lines(limit: 10))),
            peers: [Peer(.send("short\n"), .read(6), .send("12345678901"), .readToEnd)],
            expected: [
                .init(received: .exactly("short\n"), closing: .failed("EMSGSIZE"), peer: .exactly("short\n"), .end)
            ]),
        Scenario(
            "frames_cut_by_the_end", source: clause + ": EBADMSG", clauses: [4, 19],
            handler: .script(Script(.echo, framing: .messages(limit: 300))),
            peers: [Peer(.send("\u{0}\u{1}a\u{0}\u{9}a"), .read(3), .halfClose, .readToEnd)],
            expected: [
                .init(
                    received: .exactly("\u{0}\u{1}a"), ended: true, closing: .failed("EBADMSG"),
                    peer: .exactly("\u{0}\u{1}a"), .end)
            ]),
    ]
}
