/// The owner of each descriptor, which is told its events.
///
/// Indexed by descriptor numbers, which are small: the kernel hands out the lowest that is free (open(2)). A number's
/// generation grows when its owner leaves, so that a late event finds no owner.
@safe struct SourceTable {
    /// What has events of its own. The table holds no reference: each owner leaves before it is released.
    @safe enum Source {
        case stream(Unmanaged<ReadinessStream>)
        case listener(Unmanaged<ReadinessListener>)
        /// The counter that wakes the loop from outside.
        case counter
        /// The main actor's tasks.
        case mainQueue
    }

    @safe private struct Slot {
        var generation: UInt32 = 0
        var source: Source?
    }

    // Allocated in `enter` and moved there when it grows, given back in `deallocate`.
    private var slots: UnsafeMutablePointer<Slot>?
    private var capacity = 0

    /// Gives `descriptor` a new owner. Returns the token of this owner's events.
    mutating func enter(_ descriptor: Int32, _ source: Source) -> Token {
        let index = Int(descriptor)
        if index >= capacity { grow(beyond: index) }
        unsafe slots![index].source = source
        return unsafe Token(descriptor: descriptor, generation: slots![index].generation)
    }

    mutating func leave(_ token: Token) {
        let index = Int(token.descriptor)
        unsafe slots![index].source = nil
        // Wraps after 4 billion owners of one number. No event waits that long to be delivered.
        unsafe slots![index].generation &+= 1
    }

    /// The owner to which `token` was given; `nil` if it has left.
    @inline(__always)
    func source(of token: Token) -> Source? {
        // Every token comes from `enter`, which has made room for its descriptor.
        let index = Int(token.descriptor)
        assert(index < capacity)
        let slot = unsafe slots.unsafelyUnwrapped[index]
        return slot.generation == token.generation ? slot.source : nil
    }

    private mutating func grow(beyond index: Int) {
        let larger = UnsafeMutablePointer<Slot>.allocate(capacity: max(64, 2 * (index + 1)))
        let count = max(64, 2 * (index + 1))
        if let slots = unsafe slots {
            unsafe larger.moveInitialize(from: slots, count: capacity)
            unsafe slots.deallocate()
        }
        unsafe (larger + capacity).initialize(repeating: Slot(), count: count - capacity)
        unsafe slots = larger
        capacity = count
    }

    mutating func deallocate() {
        unsafe slots?.deallocate()
        unsafe slots = nil
        capacity = 0
    }
}
