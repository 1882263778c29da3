internal import CallbackModel
internal import Glibc
internal import ParityKit

/// A plain socket at the other end of a connection.
final class CalledPeer {
    let number: Int
    private let socket: PeerSocket
    private unowned let machine: CallMachine
    /// All that the kernel took.
    private(set) var sent: [UInt8] = []
    private(set) var receivedCount = 0
    /// It has sent FIN or RST.
    private(set) var hasFinished = false
    /// Its FIN is on the way, or may be: a close is FIN or RST, as the kernel finds.
    private(set) var hasSentEnd = false
    /// It has received the end, or a reset.
    private(set) var isOver = false
    /// It has closed or reset, and what it had not received is lost.
    private(set) var isBroken = false
    /// With RST, which a Unix socket does not have.
    private(set) var hasReset = false
    /// Whom it has connected to.
    private(set) var listener: CalledListener?
    let isUnix: Bool
    weak var connection: CalledConnection? {
        didSet { forgetName() }
    }

    init(_ number: Int, _ socket: PeerSocket, isUnix: Bool, _ machine: CallMachine) {
        self.number = number
        self.socket = socket
        self.isUnix = isUnix
        self.machine = machine
        port = try? socket.localAddress().port
    }

    /// Half of the peers shake hands by themselves, the others as far as they are told to send and receive.
    func advance() {
        if number.isMultiple(of: 2), !isBroken { socket.advance() }
    }

    func forgetName() { port = nil }

    func connects(to listener: CalledListener?) { self.listener = listener }

    /// A client that a listener has room for is accepted.
    var owed: String? {
        guard let listener, port != nil, listener.hasRoom, !isBroken else { return nil }
        return "peer \(number) is not accepted"
    }

    /// Its name, by which the connection that its listener accepts is told, until it is; the kernel gives it to others
    /// afterwards.
    private(set) var port: Int?

    /// What a layer could not send, which then is the next that it is given.
    private var waiting: [UInt8] = []

    func send(_ bytes: [UInt8]) {
        guard !hasFinished else { return }
        let bytes = waiting.isEmpty ? bytes : waiting
        machine.note("peer \(number) sends \(bytes.count) bytes")
        let result = unsafe bytes.withUnsafeBytes { unsafe socket.send($0) }
        waiting = []
        switch result {
        case .success(let count?): sent += bytes[..<count]
        case .success(nil): waiting = bytes
        case .failure: break
        }
    }

    /// Receives what is there; every byte must be the next one that was written.
    func receive(_ count: Int) {
        guard !isOver, count > 0 else { return }
        if !machine.isSettling { machine.note("peer \(number) receives up to \(count) bytes") }
        var buffer = [UInt8](repeating: 0, count: count)
        let result = unsafe buffer.withUnsafeMutableBytes { unsafe socket.receive($0) }
        switch result {
        case .success(let count?):
            if count == 0 { isOver = true }
            check(buffer[..<count])
        case .success(nil): break
        case .failure: isOver = true
        }
    }

    func receiveAll() {
        var before = -1
        while receivedCount != before, !isOver {
            before = receivedCount
            receive(65_536)
        }
    }

    private func check(_ bytes: ArraySlice<UInt8>) {
        let start = receivedCount
        receivedCount += bytes.count
        guard let connection, !connection.isPiped else { return }
        guard receivedCount <= connection.written.count else {
            return machine.overseer.report("clause 5: peer \(number) got more than was written")
        }
        if !bytes.elementsEqual(connection.written[start..<receivedCount]) {
            machine.overseer.report("clause 5: peer \(number) got other bytes than were written")
        }
    }

    func finish() {
        guard !hasFinished else { return }
        machine.note("peer \(number) half-closes")
        hasFinished = true
        hasSentEnd = true
        try? socket.shutDown(SHUT_WR, mayWait: false)
    }

    func close() {
        hasFinished = true
        hasSentEnd = hasSentEnd || !hasReset
        isOver = true
        isBroken = true
        socket.close()
    }

    func reset() {
        machine.note("peer \(number) resets")
        hasFinished = true
        isOver = true
        isBroken = true
        hasReset = !isUnix
        hasSentEnd = hasSentEnd || isUnix
        socket.reset()
    }
}
