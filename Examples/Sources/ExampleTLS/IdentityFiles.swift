public import ArgumentParser
public import CallbackServer
public import CallbackTLS
import ExampleSupport

/// The files that tell who a server is.
public struct IdentityFiles: ParsableArguments {
    @Option(
        help: ArgumentHelp("The server's certificate, then those that lead to a root, in PEM.", valueName: "file"))
    var certificate: String

    @Option(help: ArgumentHelp("The private key of the certificate, in PEM and not encrypted.", valueName: "file"))
    var key: String

    /// For the command line.
    public init() {}

    private var identity: TLS.Identity {
        TLS.Identity(certificateChain: .file(certificate), privateKey: .file(key))
    }

    /// A server with what is in the files now, which reads them again at each SIGHUP.
    ///
    /// Connections that are there, or that begin in the meantime, are not disturbed. If the files are wrong, the
    /// server keeps what it has.
    public func server(_ options: TLS.Server.Options, on loop: EventLoop) throws -> TLS.Server {
        let server = try TLS.Server(identities: [identity], options: options)
        try loop.onSignal(.hangUp) { _ in
            do throws(TLS.ConfigurationError) {
                try server.replace(identities: [identity])
                printLine("Reloaded")
            } catch {
                printLine("Not reloaded: \(error)")
            }
        }.unref()
        return server
    }
}
