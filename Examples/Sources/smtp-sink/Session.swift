import CallbackServer
import CallbackTLS
import ExampleSupport

/// A mail on its way: nothing of it is kept.
struct Mail {
    var recipientCount = 0
    /// Of the text, with the ends of its lines.
    var byteCount = 0
}

/// One client: its commands are answered in order, and no faster than it reads the replies.
final class Session {
    let connection: Connection
    private unowned let sink: Sink
    private var state = State.greeted

    /// What the client has said.
    private enum State {
        case greeted
        /// HELO or EHLO.
        case ready
        /// MAIL, and perhaps RCPT.
        case envelope(Mail)
        /// DATA, and not yet the line with a dot.
        case text(Mail)
    }

    /// Bytes of a line without its end. RFC 5321, section 4.5.3.1, wants 998 at least; some write longer ones.
    private static let longestLine = 16 * 1024
    /// Bytes of a mail.
    private static let largestMail = 10 * 1024 * 1024
    /// Recipients of a mail: RFC 5321, section 4.5.3.1.8, wants 100 at least.
    private static let mostRecipients = 100

    init(_ connection: Connection, _ sink: Sink) {
        self.connection = connection
        self.sink = sink
    }

    /// Whether there is a mail that the client believes to be on its way.
    var isInsideMail: Bool { if case .text = state { true } else { false } }

    func begin() {
        // A line ends with both bytes. To take less for an end is how a mail hides another one (CVE-2023-51764).
        connection.onLines(limit: Self.longestLine, delimiter: .crlf) { [self] _, line in take(line) }
        connection.onUnfinishedFrame = { _, _ in }
        connection.onDrain = { $0.resume() }
        reply("220 localhost ESMTP smtp-sink")
    }

    /// There will be no other reply.
    func hangUp() {
        reply("421 4.3.2 localhost closes")
        connection.finish(within: .farewell)
    }

    private func take(_ line: Span<UInt8>) {
        guard case .text(let mail) = state else { return obey([UInt8](copying: line)) }
        takeText(line, of: mail)
    }

    private func reply(_ text: String) {
        if connection.write("\(text)\r\n") == .saturated { connection.pause() }
    }

    // MARK: Commands

    private func obey(_ line: [UInt8]) {
        guard let command = Command(line) else { return reply("500 5.5.2 A command is made of ASCII") }
        switch command.verb {
        case "HELO", "EHLO": hello(command)
        case "MAIL": mail(command)
        case "RCPT": recipient(command)
        case "DATA": data(command)
        case "STARTTLS": startTLS(command)
        case "RSET":
            if case .greeted = state {} else { state = .ready }
            reply("250 2.0.0 Forgotten")
        case "NOOP": reply("250 2.0.0 Nothing done")
        case "QUIT":
            reply("221 2.0.0 Goodbye")
            connection.finish(within: .farewell)
        case "VRFY": reply("252 2.5.0 Anybody's mail is taken")
        // There is nobody to be. Known, and not offered: 502 (RFC 5321, section 4.2.4).
        case "AUTH", "EXPN", "HELP", "TURN", "ETRN", "BDAT": reply("502 5.5.1 Not known here")
        default: reply("500 5.5.1 Not a command")
        }
    }

    private func hello(_ command: Command) {
        guard !command.argument.isEmpty else { return reply("501 5.5.4 Who are you?") }
        state = .ready
        guard command.verb == "EHLO" else { return reply("250 localhost") }
        reply("250-localhost\r\n250-PIPELINING\r\n250-SIZE \(Self.largestMail)\r\n250-8BITMIME")
        // Not offered again (RFC 3207, section 4.2).
        if connection.tls == nil { reply("250-STARTTLS") }
        reply("250 ENHANCEDSTATUSCODES")
    }

    private func mail(_ command: Command) {
        switch state {
        case .greeted: return reply("503 5.5.1 EHLO first")
        case .envelope, .text: return reply("503 5.5.1 There is a mail already")
        case .ready: break
        }
        guard let (_, parameters) = command.path(behind: "FROM:") else { return reply("501 5.5.4 MAIL FROM:<address>") }
        for parameter in parameters {
            if let size = parameter.wholeMatch(of: /SIZE=(\d{1,20})/)?.output.1 {
                guard let size = Int(size), size <= Self.largestMail else { return reply("552 5.3.4 Too large") }
            } else if parameter != "BODY=7BIT", parameter != "BODY=8BITMIME" {
                return reply("555 5.5.4 Not a parameter")
            }
        }
        state = .envelope(Mail())
        reply("250 2.1.0 Sender taken")
    }

    private func recipient(_ command: Command) {
        guard case .envelope(var mail) = state else { return reply("503 5.5.1 MAIL first") }
        guard let (path, parameters) = command.path(behind: "TO:"), !path.isEmpty else {
            return reply("501 5.5.4 RCPT TO:<address>")
        }
        guard parameters.isEmpty else { return reply("555 5.5.4 Not a parameter") }
        guard mail.recipientCount < Self.mostRecipients else { return reply("452 4.5.3 Too many recipients") }
        mail.recipientCount += 1
        state = .envelope(mail)
        reply("250 2.1.5 Recipient taken")
    }

    private func data(_ command: Command) {
        guard command.argument.isEmpty else { return reply("501 5.5.4 DATA alone") }
        guard case .envelope(let mail) = state else { return reply("503 5.5.1 MAIL first") }
        guard mail.recipientCount > 0 else { return reply("554 5.5.1 No recipients") }
        state = .text(mail)
        reply("354 A line with a dot ends it")
    }

    // MARK: The text

    private func takeText(_ line: Span<UInt8>, of mail: Mail) {
        var mail = mail
        if line.count == 1, line[0] == UInt8(ascii: ".") { return end(mail) }
        // A dot in front of another text was put there for the way (RFC 5321, section 4.5.2).
        let isStuffed = !line.isEmpty && line[0] == UInt8(ascii: ".")
        mail.byteCount += line.count - (isStuffed ? 1 : 0) + 2
        state = .text(mail)
    }

    private func end(_ mail: Mail) {
        state = .ready
        if mail.byteCount <= Self.largestMail {
            sink.dropped(mail, from: connection)
            reply("250 2.0.0 Dropped")
        } else {
            reply("552 5.3.4 Too large")
        }
        if sink.isClosing { hangUp() }
    }

    // MARK: TLS

    /// What the client has said before came in clear, and is forgotten (RFC 3207, section 4.2). A command that came
    /// behind this one in clear ends the connection: it may be somebody else's.
    private func startTLS(_ command: Command) {
        guard command.argument.isEmpty else { return reply("501 5.5.4 STARTTLS alone") }
        guard connection.tls == nil else { return reply("503 5.5.1 TLS is spoken already") }
        state = .greeted
        reply("220 2.0.0 Go on with TLS")
        connection.startTLS(sink.tls) { _ in }
    }
}
