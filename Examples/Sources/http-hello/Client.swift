import CallbackServer
import ExampleSupport

/// One client: its requests are answered in order, and no faster than it reads the answers.
final class Client {
    let connection: Connection
    private unowned let server: Server
    private var lines = LineReader(limit: Request.longestHead)
    private var request = Request()
    /// Runs from a request's first byte to its last line: a client that sends a byte now and then is no use.
    private var deadline: EventLoop.Timer?
    private var state = State.flowing

    private enum State {
        case flowing
        /// The answers wait for the client, and its requests for that.
        case saturated
        /// The last answer is given.
        case over
    }

    init(_ connection: Connection, _ server: Server) {
        self.connection = connection
        self.server = server
    }

    /// Whether a request has begun that is not answered.
    var isInsideRequest: Bool { deadline != nil || state == .saturated }

    func received(_ bytes: Span<UInt8>) {
        lines.append(bytes)
        answer()
        if state == .saturated { connection.pause() }
    }

    /// The client has read its answers.
    func drained() {
        guard state == .saturated else { return }
        state = .flowing
        answer()
        if state == .flowing { connection.resume() }
    }

    func stopWatch() {
        deadline?.cancel()
        deadline = nil
    }

    private func answer() {
        do throws(Request.Refusal) {
            while state == .flowing, let line = lines.next() {
                switch line {
                case .tooLong(let beginning): throw request.tooLong(beginning)
                case .line(let line):
                    guard try request.take(line) else { continue }
                    answer(request)
                    request = Request()
                }
            }
        } catch {
            refuse(error.status)
        }
        watchTime()
    }

    private func answer(_ request: Request) {
        let closes = request.closes || server.isClosing
        let status = request.path.elementsEqual("/".utf8) ? Response.Status.ok : .notFound
        if status == .ok, !request.isHead, !closes {
            wrote(connection.write(server.page))
        } else {
            wrote(connection.write(Response(status).text(isHead: request.isHead, closes: closes)))
        }
        // The next request has its own time.
        stopWatch()
        if closes { hangUp() }
    }

    private func refuse(_ status: Response.Status) {
        wrote(connection.write(Response(status).text(isHead: request.isHead, closes: true)))
        hangUp()
    }

    private func timeIsUp() {
        request.noteMethod(lines.unfinishedLine)
        refuse(.requestTimeout)
    }

    private func wrote(_ answer: WriteStatus) {
        if answer == .saturated, state == .flowing { state = .saturated }
    }

    /// There will be no other answer.
    func hangUp() {
        state = .over
        connection.finish(within: .farewell)
    }

    private func watchTime() {
        let isWaiting = state == .flowing && (request.hasBegun || lines.isInsideLine)
        if isWaiting, deadline == nil {
            deadline = server.loop.schedule(after: server.requestTimeout) { [weak self] _ in
                self?.timeIsUp()
            }
        } else if !isWaiting {
            stopWatch()
        }
    }
}
