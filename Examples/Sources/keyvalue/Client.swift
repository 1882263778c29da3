import CallbackServer
import ExampleSupport

/// One client: its requests are answered in order, and no faster than it reads the answers.
final class Client {
    let connection: Connection
    let store: Store
    private var request = Request()
    /// Bytes that have come and are not answered, as the store has counted them.
    private(set) var inputSize = 0
    private let onFull: () -> Void
    private var state = State.flowing

    private enum State {
        case flowing
        /// The answers wait for the client, and its requests for that.
        case saturated
        /// The last words are said.
        case over
    }

    /// `onFull` is called when all clients together have sent more that is not answered than there is memory for.
    init(_ connection: Connection, _ store: Store, onFull: @escaping () -> Void) {
        self.onFull = onFull
        self.connection = connection
        self.store = store
    }

    /// The longest request that is refused by `Request`, with its reason, and not by the connection.
    static let longestFrame = Request.longest + 2 * Request.longestLine

    /// Requests that are answered in one go. A turn has a limit of frames, and these are one of them: without a bound
    /// one client's whole read would be answered before anybody else has a turn.
    private static let mostAtOnce = 16

    /// The whole requests that are there, up to a bound: those that came together are answered together.
    func read(_ reader: inout ByteReader) -> FrameStatus {
        var status = FrameStatus.needMore
        do throws(Request.Malformed) {
            var left = Self.mostAtOnce
            while left > 0, state == .flowing, reader.remaining > 0 {
                left -= 1
                let bytes = reader.rest
                guard try request.parse(bytes) else {
                    count(bytes.count)
                    return status
                }
                // Not counted while it is answered: a value would have no place because of the request that brings it.
                count(0)
                reader.skip(request.length)
                let words = request.words
                if !request.arguments.isEmpty { perform(words.isEmpty ? bytes : words.span, request.arguments) }
                status = .frame
            }
            if state == .saturated { count(reader.remaining) }
        } catch {
            reply(error: Array("Protocol error: ".utf8) + error.text)
            hangUp()
        }
        return status
    }

    /// The client has read its answers.
    func drained() {
        guard state == .saturated else { return }
        state = .flowing
        connection.resume()
    }

    /// What was asked and not answered never will be; the answers still go out.
    func hangUp() {
        closed()
        connection.finish(within: .farewell)
    }

    /// The memory that the client has filled is needed for the others'.
    func shed() {
        reply(Self.outOfMemory)
        hangUp()
    }

    /// What the client has sent is of no use any more.
    func closed() {
        state = .over
        count(0)
    }

    /// So many bytes are not answered.
    private func count(_ size: Int) {
        let change = (state == .over ? 0 : size) - inputSize
        guard change != 0 else { return }
        inputSize += change
        if !store.unansweredChanged(by: change), change > 0 { onFull() }
    }

    // MARK: Answers

    private func wrote(_ answer: WriteStatus) {
        guard answer == .saturated, state == .flowing else { return }
        state = .saturated
        connection.pause()
    }

    func reply(_ line: String) {
        wrote(connection.write(line + "\r\n"))
    }

    func replyOK() {
        wrote(connection.write("+OK\r\n" as StaticString))
    }

    func reply(_ number: Int) {
        reply(":\(number)")
    }

    func reply(error: String) {
        reply("-ERR \(error)")
    }

    func reply(error: [UInt8]) {
        wrote(connection.write(Array("-ERR ".utf8) + error + Array("\r\n".utf8)))
    }

    func reply(_ value: [UInt8]?) {
        guard let value else { return reply("$-1") }
        wrote(connection.write("$\(value.count)\r\n"))
        wrote(connection.write(value))
        wrote(connection.write("\r\n" as StaticString))
    }
}
