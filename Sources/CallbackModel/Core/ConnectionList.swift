/// The open connections of a loop, linked through themselves: no allocation and no hashing per connection.
struct ConnectionList {
    private var first: Connection?
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func insert(_ connection: Connection) {
        connection.nextInLoop = first
        unsafe first?.previousInLoop = .passUnretained(connection)
        first = connection
        count += 1
    }

    mutating func remove(_ connection: Connection) {
        let next = connection.nextInLoop
        unsafe next?.previousInLoop = connection.previousInLoop
        if let previous = unsafe connection.previousInLoop {
            unsafe previous.takeUnretainedValue().nextInLoop = next
        } else {
            first = next
        }
        connection.nextInLoop = nil
        unsafe connection.previousInLoop = nil
        count -= 1
    }

    /// Calls `body` for each; it may remove the connection it is given.
    func forEach(_ body: (Connection) -> Void) {
        var current = first
        while let connection = current {
            current = connection.nextInLoop
            body(connection)
        }
    }
}
