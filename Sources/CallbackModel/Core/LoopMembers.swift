/// What a loop owns while it is open, besides its connections: a listener, an armed timer, a signal watcher.
protocol LoopMember: AnyObject {
    /// Whether ``EventLoop/run(_:)`` goes on because of it now.
    var keepsLoop: Bool { get }
    /// Whether the engine has to be told to go on. It knows by itself of timers and signals.
    var holdsLoop: Bool { get }
    /// The descriptor that it owns; -1 for none.
    var ownedDescriptor: Int32 { get }
    /// Closes without calling anyone: the loop is being let go.
    func abandon()
}

/// The open members of a loop, kept alive here so that users need not hold them.
struct LoopMembers {
    private var members: [ObjectIdentifier: any LoopMember] = [:]
    /// How many of them hold the loop.
    private(set) var holdingCount = 0

    var isEmpty: Bool { members.isEmpty }
    var keepLoop: Bool { members.values.contains { $0.keepsLoop } }

    /// Does nothing for one that is here already.
    mutating func insert(_ member: some LoopMember) {
        guard members.updateValue(member, forKey: ObjectIdentifier(member)) == nil else { return }
        if member.holdsLoop { holdingCount += 1 }
    }

    /// Does nothing for one that is not here.
    mutating func remove(_ member: some LoopMember) {
        guard members.removeValue(forKey: ObjectIdentifier(member)) != nil else { return }
        if member.holdsLoop { holdingCount -= 1 }
    }

    func own(_ descriptor: Int32) -> Bool {
        members.values.contains { $0.ownedDescriptor == descriptor }
    }

    /// Members leave while this runs.
    func abandonAll() {
        for member in members.values { member.abandon() }
    }
}

extension Listener: LoopMember {
    var keepsLoop: Bool { true }
    var holdsLoop: Bool { true }
    var ownedDescriptor: Int32 { driver.descriptor }
}

extension EventLoop.Timer: LoopMember {
    var keepsLoop: Bool { isArmed && isReferenced }
    var holdsLoop: Bool { false }
    var ownedDescriptor: Int32 { -1 }
}

extension EventLoop.SignalWatcher: LoopMember {
    var keepsLoop: Bool { isReferenced }
    var holdsLoop: Bool { false }
    var ownedDescriptor: Int32 { -1 }

    func abandon() { cancel() }
}
