public import Testing

/// That a process which has trapped has said these words, however it was compiled.
public func expectSentence(
    _ result: ExitTest.Result?, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
) {
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    for word in words { #expect(text.contains(word), "\(text.prefix(500))", sourceLocation: sourceLocation) }
}
