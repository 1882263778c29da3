public import CallbackServer

extension EventLoop {
    /// A connection of the client's own to `target`, and a pipe each way.
    ///
    /// What the client sends before the target has answered waits, and so does the client when it is too much. How one
    /// end finishes is handed on to the other. If one end breaks, the other is reset, so that nobody takes a part for
    /// the whole.
    public func forward(_ client: Connection, to target: HostAndPort, connecting limit: Duration, idle: Duration) {
        var options = ConnectOptions()
        options.connection.timeouts.connect = limit
        options.connection.timeouts.idle = idle
        do throws(IOError) {
            let server = try connect(host: target.host, port: target.port, options: options)
            client.pipe(to: server)
            server.pipe(to: client)
            server.onClose = { _, reason in
                if case .failed(let error) = reason { printLine("\(error)") }
                if case .timedOut(let kind) = reason {
                    printLine("\(target.host) port \(target.port): \(kind) time-out")
                }
            }
        } catch {
            printLine("\(error)")
            client.reset()
        }
    }
}
