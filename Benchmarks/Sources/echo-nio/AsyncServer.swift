import Glibc
import NIOCore
import NIOPosix

/// The echo server over SwiftNIO's asynchronous channels, as its documentation shows it.
func serveAsync() async throws {
    let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup(numberOfThreads: 1))
        .serverChannelOption(.backlog, value: 511)
        .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
        // What a client has sent before it half-closes is answered.
        .childChannelOption(.allowRemoteHalfClosure, value: true)
        .bind(host: "127.0.0.1", port: 0) { channel in
            channel.eventLoop.makeCompletedFuture {
                try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
            }
        }
    announce(server.channel.localAddress)
    try await withThrowingDiscardingTaskGroup { group in
        try await server.executeThenClose { clients in
            for try await client in clients {
                group.addTask { await echo(client) }
            }
        }
    }
}

private func echo(_ client: NIOAsyncChannel<ByteBuffer, ByteBuffer>) async {
    do {
        try await client.executeThenClose { inbound, outbound in
            for try await bytes in inbound { try await outbound.write(bytes) }
        }
    } catch {
        // The connection has closed, and why is of no interest here.
    }
}
