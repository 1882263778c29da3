/// What a write returns. It never blocks and never throws.
public enum WriteStatus: Hashable, Sendable {
    /// Less than the high water mark is queued: go on.
    case flowing
    /// The high water mark is reached: the bytes are queued, but stop until `onDrain`.
    case saturated
    /// Nothing can be sent any more, and these bytes were not.
    case closed
}
