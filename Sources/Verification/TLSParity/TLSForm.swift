internal import CallbackModel
public import CallbackTLS
public import ParityKit

extension Form {
    /// One loop and callbacks, over TLS of this version. The peers speak it with OpenSSL alone.
    ///
    /// Scenarios are to be played as ``ParityKit/Scenario/overTLS`` says.
    public static func tls(_ version: TLS.Version = .tls13) throws(TLS.ConfigurationError) -> Form {
        let witness = try Witness(version)
        var options = TLS.Server.Options()
        options.maximumVersion = version
        // A peer that closes before it has read its tickets sends RST, whether it closes early or late being a matter
        // of time.
        options.issuesTickets = false
        let server = try TLS.Server(
            certificateChain: .pem(witness.certificate), privateKey: .pem(witness.privateKey), options: options)
        let client = try TLS.Client(trust: .certificates(.pem(witness.certificate)))
        let transport = Transport(
            listen: { loop, address, options, onConnection throws(IOError) in
                try loop.listen(on: address, tls: server, options: options, onConnection: onConnection)
            },
            connect: { loop, address, options throws(IOError) in
                let name = address.port == nil ? serverName : nil
                return try loop.connect(to: address, tls: client, serverName: name, options: options)
            },
            layer: { socket, isAccepted throws(PeerFailure) in
                try TLSPeer(socket, witness, isServer: isAccepted)
            })
        return Form(version == .tls13 ? "tls" : "tls12", over: transport, obstacle: TLSObstacle.of)
    }
}
