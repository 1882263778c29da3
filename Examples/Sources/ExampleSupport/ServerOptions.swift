public import ArgumentParser
public import CallbackServer
import Glibc

/// The command line that the servers here have in common.
public struct ServerOptions: ParsableArguments {
    /// The address to listen on.
    @Option(help: ArgumentHelp("The numeric IPv4 or IPv6 address to listen on.", valueName: "addr"))
    public var host = "127.0.0.1"

    /// The port to listen on.
    @Option(help: ArgumentHelp("The port; 0 takes a free one, which the first line tells.", valueName: "n"))
    public var port = 8080

    /// The engine of the loop.
    @Option(help: "What waits for events.")
    public var engine = Engine.libuv

    /// For how long to drain, in seconds.
    @Option(help: ArgumentHelp("After SIGINT or SIGTERM, let clients finish for so long.", valueName: "seconds"))
    public var drain = 5.0

    /// What the command line leaves out.
    public init() {}

    /// Refuses an address that cannot be one, before anything is begun.
    public func validate() throws {
        try requireAddress { _ = try address }
        guard (0...86_400).contains(drain) else {
            throw ValidationError("--drain \(drain) is not between 0 and 86400 seconds")
        }
    }

    /// Where to listen.
    public var address: SocketAddress {
        get throws { host.contains(":") ? try .ipv6(host, port: port) : try .ipv4(host, port: port) }
    }
}

extension Engine: @retroactive ExpressibleByArgument {}

/// Tells an address that cannot be one as what it is here: a mistake in the command line.
public func requireAddress(_ body: () throws -> Void) throws {
    do { try body() } catch { throw ValidationError("\(error)") }
}

/// Prints a line at once; `print` alone keeps it back while standard output is a pipe or a file.
public func printLine(_ line: String) {
    print(line)
    fflush(nil)
}
