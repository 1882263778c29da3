/// What both sides can choose.
protocol TLSOptions {
    var minimumVersion: TLS.Version { get }
    var maximumVersion: TLS.Version? { get }
    var applicationProtocols: [String] { get }
    var keyLogFile: String? { get }
}

extension TLSOptions {
    /// The names of ALPN as they are sent, each behind its length (RFC 7301, section 3.1).
    func wireProtocols() throws(TLS.ConfigurationError) -> [UInt8] {
        var wire: [UInt8] = []
        for name in applicationProtocols {
            guard (1...255).contains(name.utf8.count) else {
                throw .invalid("an application protocol has 1 to 255 bytes, not \(name.utf8.count)")
            }
            wire.append(UInt8(name.utf8.count))
            wire += name.utf8
        }
        guard wire.count <= 65_535 else { throw .invalid("the application protocols have more than 65535 bytes") }
        return wire
    }
}
