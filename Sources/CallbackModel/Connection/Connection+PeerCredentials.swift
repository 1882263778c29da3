internal import Glibc

extension Connection {
    /// Who is at the other end of a Unix socket, as the kernel knows it.
    public struct PeerCredentials: Hashable, Sendable {
        /// The process; 0 if this one's PID namespace does not show it.
        ///
        /// It may have ended, and its number may be another's by now: decide by the user.
        public let processID: Int32
        /// The effective user.
        public let userID: UInt32
        /// The effective group.
        public let groupID: UInt32
    }

    /// Who the peer of a Unix socket was when it connected, or, if the peer is the server, when it began to listen. The
    /// peer cannot lie. `nil` for TCP, before `onOpen`, and once the connection is closed.
    ///
    /// Each call asks the kernel.
    ///
    /// Source: unix(7), SO_PEERCRED.
    public var peerCredentials: PeerCredentials? {
        var domain: Int32 = 0
        guard read(SO_DOMAIN, into: &domain), domain == AF_UNIX else { return nil }
        // `struct ucred`, which glibc shows to those who ask for all that is not POSIX.
        var values: (pid: Int32, uid: UInt32, gid: UInt32) = (0, 0, 0)
        // A socket that has no peer yet has no user.
        guard read(SO_PEERCRED, into: &values), values.uid != .max else { return nil }
        return PeerCredentials(processID: values.pid, userID: values.uid, groupID: values.gid)
    }

    /// getsockopt(2); false if the socket has no such option, or is closed.
    private func read<Value: BitwiseCopyable>(_ option: Int32, into value: inout Value) -> Bool {
        var length = socklen_t(MemoryLayout<Value>.size)
        return unsafe getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0
    }
}
