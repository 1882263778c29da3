public import CallbackModel

extension Scenario {
    /// The scenario as Swift, to be pasted among the others: peers, scripts and options that differ from the defaults.
    ///
    /// A closure cannot be printed; it becomes a comment.
    public var swiftSource: String {
        var lines = ["Scenario("]
        lines.append("    \(name.debugDescription), source: \(source.debugDescription), on: .\(endpoint.rawValue),")
        let changes = optionChanges
        if !changes.isEmpty {
            lines.append("    options: .connections { \(changes.joined(separator: "; ")) },")
        }
        switch handler {
        case .script(let script): lines.append("    handler: .script(\(script.swiftSource)),")
        case .scripts(let scripts):
            lines.append(
                "    handler: .scripts([\n        \(scripts.map(\.swiftSource).joined(separator: ",\n        "))]),")
        case .clients(let scripts):
            lines.append(
                "    handler: .clients([\n        \(scripts.map(\.swiftSource).joined(separator: ",\n        "))]),")
        case .closure: lines.append("    handler: .closure(/* the handler under test */),")
        case .program: lines.append("    handler: .program(/* the program under test */),")
        }
        lines.append("    peers: [\n        \(peers.map(\.swiftSource).joined(separator: ",\n        "))],")
        lines.append("    notes: nil)")
        return lines.joined(separator: "\n")
    }

    private var optionChanges: [String] {
        let (mine, usual) = (options.connection, Listener.Options().connection)
        var changes: [String] = []
        if mine.highWaterMark != usual.highWaterMark { changes.append("$0.highWaterMark = \(mine.highWaterMark)") }
        if mine.lowWaterMark != usual.lowWaterMark { changes.append("$0.lowWaterMark = \(mine.lowWaterMark)") }
        if mine.allowsHalfOpen { changes.append("$0.allowsHalfOpen = true") }
        if let size = mine.sendBufferSize { changes.append("$0.sendBufferSize = \(size)") }
        if let size = mine.receiveBufferSize { changes.append("$0.receiveBufferSize = \(size)") }
        let (times, usualTimes) = (mine.timeouts, usual.timeouts)
        for (name, time, usual) in [
            ("idle", times.idle, usualTimes.idle), ("read", times.read, usualTimes.read),
            ("write", times.write, usualTimes.write), ("connect", times.connect, usualTimes.connect),
            ("close", times.close, usualTimes.close),
        ] where time != usual {
            let value = time.map { ".milliseconds(\($0.wholeMilliseconds))" } ?? "nil"
            changes.append("$0.timeouts.\(name) = \(value)")
        }
        return changes
    }
}

extension Listener.Options {
    /// The defaults, but for what `change` sets of each connection.
    public static func connections(_ change: (inout Connection.Options) -> Void) -> Listener.Options {
        var options = Listener.Options()
        change(&options.connection)
        return options
    }
}

extension Peer {
    var swiftSource: String {
        var parts = steps.map { "\($0)" }
        if let receiveBuffer { parts.append("receiveBuffer: \(receiveBuffer)") }
        if let sendBuffer { parts.append("sendBuffer: \(sendBuffer)") }
        if reception != .accepts { parts.append("reception: .\(reception)") }
        return "Peer(\(parts.joined(separator: ", ")))"
    }
}

extension Script {
    var swiftSource: String {
        let framing = framing.map { ", framing: .\($0)" } ?? ""
        if reactions.isEmpty { return "Script(.\(response)\(framing))" }
        let texts = reactions.map { reaction in
            ".on(\(reaction.trigger), \(reaction.actions.map { "\($0)" }.joined(separator: ", ")))"
        }
        return "Script(.\(response), [\(texts.joined(separator: ", "))]\(framing))"
    }
}
