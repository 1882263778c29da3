/// What crosses threads closed, and is opened on its loop's thread alone. The compiler cannot see that: each use says
/// what keeps it so.
struct LoopOnly<Value>: Sendable {
    nonisolated(unsafe) private let value: Value

    init(_ value: Value) {
        unsafe self.value = value
    }

    /// For the loop's thread.
    var opened: Value { unsafe value }
}
