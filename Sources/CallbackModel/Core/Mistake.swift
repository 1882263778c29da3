/// Traps unless `isTrue`, with a sentence on standard error, in a release build too: `precondition` drops its sentence
/// there. For a mistake of the caller, or of an engine. The sentence names the value, and is made only when it is
/// needed, so that a check costs one branch.
@inlinable @inline(__always)
package func require(
    _ isTrue: Bool, _ sentence: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) {
    if !isTrue { trap(sentence(), file: file, line: line) }
}

/// Writes a sentence to standard error, with one write(2), and traps.
// Not inlined: swift.md 7.
@inline(never) @usableFromInline
package func trap(
    _ sentence: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) -> Never {
    fatalError(sentence(), file: file, line: line)
}
