import CallbackServer
import ExampleSupport

/// One client: its requests are answered in order, and no faster than it reads the answers.
final class Client {
    let connection: Connection
    let store: Store
    private unowned let loop: EventLoop
    private var request = Request()
    /// What has come and is not answered; it begins with a request.
    private var input: [UInt8] = []
    private var state = State.flowing

    private enum State {
        case flowing
        /// The answers wait for the client, and its requests for that.
        case saturated
        /// The last words are said.
        case over
    }

    init(_ connection: Connection, _ store: Store, _ loop: EventLoop) {
        self.connection = connection
        self.store = store
        self.loop = loop
    }

    func received(_ bytes: Span<UInt8>) {
        if input.isEmpty {
            // The usual case, whole requests, without a copy.
            let answered = answer(bytes)
            if answered < bytes.count { input.append(copying: bytes.extracting(answered...)) }
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
        connection.hangUp(loop)
    }

    private func answerInput() {
        var bytes: [UInt8] = []
        swap(&bytes, &input)
        let answered = answer(bytes.span)
        if answered > 0 { bytes.removeFirst(answered) }
        input = bytes
    }

    /// Answers the whole requests in `bytes`; says how many bytes they were.
    private func answer(_ bytes: Span<UInt8>) -> Int {
        var position = 0
        do throws(Request.Malformed) {
            while state == .flowing, position < bytes.count {
                let rest = bytes.extracting(position...)
                guard try request.parse(rest) else { break }
                if !request.arguments.isEmpty { perform(rest, request.arguments) }
                position += request.length
            }
        } catch {
            reply(error: "Protocol error: \(error.text)")
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

    func reply(_ value: [UInt8]?) {
        guard let value else { return reply("$-1") }
        reply("$" + String(value.count))
        wrote(connection.write(value))
        wrote(connection.write("\r\n" as StaticString))
    }
}
