import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// A peer to compare with: the same servers over SwiftNIO, on one event loop unless told.
///
///     echo-nio [echo | lines | fan-out | async] [LOOPS]
///     echo-nio tls CERTIFICATE KEY
///
/// On 127.0.0.1, on a free port. SIGTERM ends it with status 0.
@main
struct EchoNIO {
    static func main() async throws {
        let mode = CommandLine.arguments.dropFirst().first ?? "echo"
        signal(SIGTERM) { _ in _exit(0) }
        let loops = CommandLine.arguments.count == 3 ? Int(CommandLine.arguments[2]) ?? 1 : 1
        if mode == "async" { return try await serveAsync() }
        let tls = mode == "tls" ? try makeTLS(CommandLine.arguments.suffix(2)) : nil
        let members = Members()
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup(numberOfThreads: loops))
            .serverChannelOption(.backlog, value: 511)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            // What a client has sent before it half-closes is answered.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
                    switch mode {
                    case "lines": try pipeline.addHandlers(BackPressureHandler(), LinesHandler(), EndHandler())
                    case "fan-out": try pipeline.addHandlers(FanOutHandler(members), EndHandler())
                    default: try pipeline.addHandlers(BackPressureHandler(), EchoHandler(), EndHandler())
                    }
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        announce(server.localAddress)
        try await server.closeFuture.get()
    }
}

func announce(_ address: NIOCore.SocketAddress?) {
    print("Listening on port \(address?.port ?? 0)")
    fflush(nil)
}

/// As NIOSSL's documentation shows it: TLS 1.2 and 1.3, the ciphers that it prefers, no client certificates.
private func makeTLS(_ files: ArraySlice<String>) throws -> NIOSSLContext {
    guard files.count == 2, let certificate = files.first, let key = files.last else {
        print("usage: echo-nio tls CERTIFICATE KEY")
        exit(64)
    }
    let chain = try NIOSSLCertificate.fromPEMFile(certificate).map { NIOSSLCertificateSource.certificate($0) }
    let configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: chain, privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
    return try NIOSSLContext(configuration: configuration)
}

private final class EchoHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.write(data, promise: nil)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
    }
}

/// One write for each line; they leave together at the end of the read, as SwiftNIO's documentation advises.
private final class LinesHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        while bytes.readableBytes > 0 {
            let end = bytes.readableBytesView.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? bytes.writerIndex
            guard let line = bytes.readSlice(length: end - bytes.readerIndex) else { return }
            context.write(wrapOutboundOut(line), promise: nil)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
    }
}

/// Who is connected. Touched on the one event loop only.
private final class Members: @unchecked Sendable {
    var channels: [ObjectIdentifier: any Channel] = [:]
}

/// Sends what one sends to all; the buffer's storage is shared.
private final class FanOutHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let members: Members

    init(_ members: Members) {
        self.members = members
    }

    func channelActive(context: ChannelHandlerContext) {
        members.channels[ObjectIdentifier(context.channel)] = context.channel
    }

    func channelInactive(context: ChannelHandlerContext) {
        members.channels[ObjectIdentifier(context.channel)] = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        for channel in members.channels.values { channel.writeAndFlush(bytes, promise: nil) }
    }
}

/// Closes behind the last answer when the client has ended, and at once after an error.
private final class EndHandler: ChannelInboundHandler {
    typealias InboundIn = Never
    typealias OutboundOut = ByteBuffer

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event as? ChannelEvent == .inputClosed else { return context.fireUserInboundEventTriggered(event) }
        let channel = context.channel
        channel.writeAndFlush(ByteBuffer()).whenComplete { _ in channel.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
