import CallbackServer
import ExampleSupport

/// One client: its requests are answered in order, and no faster than it reads the answers.
final class Client {
    let connection: Connection
    let store: Store
    private var request = Request()
    /// What has come and is not answered; it begins with a request.
    private var input: [UInt8] = []
    /// The bytes of `input`'s memory, as the store has counted them.
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

    func received(_ bytes: Span<UInt8>) {
        if input.isEmpty {
            // The usual case, whole requests, without a copy.
            let answered = answer(bytes)
            if answered < bytes.count { keep(Array(copying: bytes.extracting(answered...))) }
        } else {
            input.append(copying: bytes)
            answerInput()
        }
        if state == .saturated { connection.pause() }
    }

    /// The client has read its answers.
    func drained() {
        guard state == .saturated else { return }
        state = .flowing
        answerInput()
        if state == .flowing { connection.resume() }
    }

    /// What was asked and not answered never will be; the answers still go out.
    func hangUp() {
        state = .over
        keep([])
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
        keep([])
    }

    private func answerInput() {
        let bytes = input
        // Not counted while it is answered: a value would have no place because of the request that brings it.
        keep([])
        let answered = answer(bytes.span)
        keep(answered == 0 ? bytes : Array(bytes[answered...]))
    }

    /// Replaces what is not answered.
    private func keep(_ bytes: [UInt8]) {
        input = state == .over ? [] : bytes
        let change = input.capacity - inputSize
        inputSize = input.capacity
        if change != 0, !store.unansweredChanged(by: change), change > 0 { onFull() }
    }

    /// Answers the whole requests in `bytes`; says how many bytes they were.
    private func answer(_ bytes: Span<UInt8>) -> Int {
        var position = 0
        do throws(Request.Malformed) {
            while state == .flowing, position < bytes.count {
                let rest = bytes.extracting(position...)
                guard try request.parse(rest) else { break }
                if !request.arguments.isEmpty {
                    let words = request.words
                    perform(words.isEmpty ? rest : words.span, request.arguments)
                }
                position += request.length
            }
        } catch {
            reply(error: Array("Protocol error: ".utf8) + error.text)
            hangUp()
        }
        return position
    }

    // MARK: Answers

    private func wrote(_ answer: WriteStatus) {
        if answer == .saturated, state == .flowing { state = .saturated }
    }

    func reply(_ line: String) {
        wrote(connection.write(line + "\r\n"))
    }

    func reply(_ number: Int) {
        reply(":" + String(number))
    }

    func reply(error: String) {
        reply("-ERR \(error)")
    }

    func reply(error: [UInt8]) {
        wrote(connection.write(Array("-ERR ".utf8) + error + Array("\r\n".utf8)))
    }

    func reply(_ value: [UInt8]?) {
        guard let value else { return reply("$-1") }
        reply("$" + String(value.count))
        wrote(connection.write(value))
        wrote(connection.write("\r\n" as StaticString))
    }
}
