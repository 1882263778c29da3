/// Traps unless `isTrue`, with a sentence on standard error, in a release build too.
///
/// `precondition` drops its sentence when the optimiser runs, and users run what the optimiser made. A mistake of the
/// caller, or a broken rule inside an engine, is told here or in `trap`, and nowhere else.
///
/// The sentence names the value. It is made only when it is needed, so that a check costs one branch.
@inlinable @inline(__always)
package func require(
    _ isTrue: Bool, _ sentence: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) {
    if !isTrue { trap(sentence(), file: file, line: line) }
}

/// Writes a sentence to standard error, with one write(2), and traps.
// Not inlined: what makes the sentence would crowd the code of those that make no mistake.
@inline(never) @usableFromInline
package func trap(
    _ sentence: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) -> Never {
    fatalError(sentence(), file: file, line: line)
}
