internal import CallbackModel
internal import ParityKit

/// A timer, and when it may fire.
final class CalledTimer {
    private unowned let machine: CallMachine
    private var timer: EventLoop.Timer?
    private weak var alive: EventLoop.Timer?
    private let isRepeating: Bool
    private var isArmed = true
    private var earliest: ContinuousClock.Instant
    private var isLoopGone = false
    /// With which it ends.
    private let owner: CalledConnection?

    init(_ loop: EventLoop, milliseconds: Int, isRepeating: Bool, _ machine: CallMachine) {
        self.machine = machine
        self.isRepeating = isRepeating
        owner = nil
        earliest = .now + .milliseconds(milliseconds)
        machine.note("a timer in \(milliseconds) ms\(isRepeating ? ", repeating" : "")")
        timer = loop.schedule(
            after: .milliseconds(milliseconds), repeating: isRepeating ? .milliseconds(1) : nil
        ) { [self] _ in fired() }
        alive = timer
    }

    /// One of a connection; `nil` if that is let go of.
    init?(_ owner: CalledConnection, _ milliseconds: Int, isRepeating: Bool, _ machine: CallMachine) {
        guard let connection = owner.connection else { return nil }
        self.machine = machine
        self.isRepeating = isRepeating
        self.owner = owner
        earliest = .now + .milliseconds(milliseconds)
        machine.note("a timer of connection \(owner.number) in \(milliseconds) ms\(isRepeating ? ", repeating" : "")")
        let timer = machine.overseer.call("schedule of a connection") {
            connection.schedule(
                after: .milliseconds(milliseconds), repeating: isRepeating ? .milliseconds(1) : nil
            ) { [self] of, _ in
                if of !== owner.alive { machine.overseer.report("clause 13: a timer came with another connection") }
                fired()
            }
        }
        self.timer = timer
        alive = timer
        isLoopGone = owner.isLoopGone
        isArmed = !owner.isOver
        check(timer)
    }

    private func fired() {
        machine.overseer.callback("a timer") {
            if !isArmed || owner?.isOver == true {
                machine.overseer.report("clause 13: a timer fired that was not armed")
            }
            if ContinuousClock.now < earliest { machine.overseer.report("clause 13: a timer fired early") }
            if isLoopGone { machine.overseer.report("clause 16: a timer fired after the loop was let go") }
            isArmed = isRepeating
            machine.note("a timer:")
            machine.react()
        }
    }

    func cancel() {
        guard let timer else { return }
        machine.overseer.call("cancel of a timer") { timer.cancel() }
        isArmed = false
        check(timer)
    }

    func reschedule(milliseconds: Int) {
        guard let timer else { return }
        machine.note("reschedule a timer to \(milliseconds) ms")
        earliest = .now + .milliseconds(milliseconds)
        machine.overseer.call("reschedule of a timer") { timer.reschedule(after: .milliseconds(milliseconds)) }
        isArmed = !isLoopGone
        check(timer)
    }

    func refer(_ isReferenced: Bool) {
        if isReferenced { timer?.ref() } else { timer?.unref() }
    }

    private func check(_ timer: EventLoop.Timer) {
        if owner?.isOver == true { isArmed = false }
        // Its connection may have ended by itself.
        if !timer.isArmed, owner?.mayHaveEnded == true { return }
        if timer.isArmed != isArmed { machine.overseer.report("clause 13: isArmed is \(timer.isArmed)") }
    }

    func drop() { timer = nil }

    func reach() {
        if timer == nil { timer = alive }
    }

    func loopIsGone() {
        isLoopGone = true
        isArmed = false
        if let timer { check(timer) }
    }
}
