/// What crosses threads closed, and is opened on its loop's thread alone. The compiler cannot see that: each use says
/// what keeps it so.
package struct LoopOnly<Value>: Sendable {
    @usableFromInline nonisolated(unsafe) let value: Value

    @inlinable
    package init(_ value: Value) {
        unsafe self.value = value
    }

    /// For the loop's thread.
    @inlinable
    package var opened: Value { unsafe value }
}
