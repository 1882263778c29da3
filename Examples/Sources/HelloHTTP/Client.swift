import CallbackServer
import ExampleSupport

/// One client: its requests are answered in order, and no faster than it reads the answers.
final class Client {
    let connection: Connection
    private unowned let server: Server
    private var request: Request
    /// Runs from a request's first byte to its last line: a client that sends a byte now and then is no use.
    private var deadline: EventLoop.Timer?
    /// The answers wait for the client, and its requests for that.
    private var isSaturated = false

    init(_ connection: Connection, _ server: Server) {
        self.connection = connection
        self.server = server
        request = Request(scheme: server.scheme)
    }

    /// Whether a request has begun that is not answered.
    var isInsideRequest: Bool { deadline != nil || request.hasBegun || isSaturated }

    /// The longest line, and CR LF. `read` takes more for a line that is too long.
    static let longestLine = Request.longestHead + 2

    /// One line of a request's head.
    func read(_ reader: inout ByteReader) -> FrameStatus {
        let end = reader.rest.firstIndex(of: UInt8(ascii: "\n"))
        guard end != nil || reader.remaining == Self.longestLine else {
            request.noteMethod(reader.rest)
            watchTime()
            return .needMore
        }
        var line = reader.rest.extracting(first: end ?? reader.remaining)
        reader.skip(line.count + (end == nil ? 0 : 1))
        if !line.isEmpty, line[line.count - 1] == UInt8(ascii: "\r") { line = line.extracting(droppingLast: 1) }
        do throws(Request.Refusal) {
            if try request.take([UInt8](copying: line)[...]) {
                answer(request)
                request = Request(scheme: server.scheme)
            }
        } catch {
            refuse(error.status)
        }
        // A request that came whole needs no timer.
        if !request.hasBegun { stopWatch() } else if reader.remaining == 0 { watchTime() }
        return .frame
    }

    /// The client has read its answers.
    func drained() {
        isSaturated = false
        connection.resume()
    }

    private func answer(_ request: Request) {
        let closes = request.closes || server.isClosing
        let status = request.path.elementsEqual("/".utf8) ? Response.Status.ok : .notFound
        if status == .ok, !request.isHead, !closes {
            wrote(connection.write(server.page))
        } else {
            wrote(connection.write(Response(status).text(isHead: request.isHead, closes: closes)))
        }
        if closes { hangUp() }
    }

    private func refuse(_ status: Response.Status) {
        wrote(connection.write(Response(status).text(isHead: request.isHead, closes: true)))
        hangUp()
    }

    private func wrote(_ answer: WriteStatus) {
        guard answer == .saturated else { return }
        isSaturated = true
        connection.pause()
    }

    /// There will be no other answer.
    func hangUp() {
        stopWatch()
        request = Request(scheme: server.scheme)
        connection.finish(within: .farewell)
    }

    private func watchTime() {
        guard deadline == nil else { return }
        deadline = connection.schedule(after: server.requestTimeout) { [unowned self] _, _ in
            refuse(.requestTimeout)
        }
    }

    private func stopWatch() {
        deadline?.cancel()
        deadline = nil
    }
}
