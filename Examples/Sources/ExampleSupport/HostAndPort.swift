public import ArgumentParser

/// A host and a port, as in `localhost:80` or `[::1]:80`.
public struct HostAndPort: ExpressibleByArgument {
    /// A name, or a numeric address without brackets.
    public let host: String
    /// 1 to 65535.
    public let port: Int

    /// `nil` if it is neither.
    public init?(argument: String) {
        guard let colon = argument.lastIndex(of: ":"), let port = UInt16(argument[argument.index(after: colon)...])
        else { return nil }
        var host = argument[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty, port > 0 else { return nil }
        self.host = String(host)
        self.port = Int(port)
    }
}
