internal import Glibc

extension EventLoop {
    /// Raises how many descriptors this process may have open: its soft limit, as `ulimit -n` shows it, to `count` or
    /// to the hard limit, whichever is less. Returns the limit that holds now. It never lowers it.
    ///
    /// Each connection takes a descriptor, and shells and systemd mostly start a program with 1,024. Call it before
    /// anything is opened, once.
    ///
    /// It does not raise the bound of ``Engine/select``, which is FD_SETSIZE, 1,024. The limit is the whole process's,
    /// and child processes inherit it: a program that itself uses select(2) breaks with descriptors beyond 1,023, which
    /// is why the soft limit is so low. In containers the hard limit may be a billion; some programs go through all
    /// numbers when they start. So name a count if you start others.
    ///
    /// Throws EINVAL for a count below 1, and what setrlimit(2) throws.
    ///
    /// Source: getrlimit(2), RLIMIT_NOFILE; select(2).
    @discardableResult
    public static func raiseDescriptorLimit(to count: Int = .max) throws(IOError) -> Int {
        guard count > 0 else { throw .invalid("setrlimit", "a limit of \(count) descriptors is less than 1") }
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard unsafe getrlimit(resource, &limit) == 0 else { throw IOError(call: "getrlimit", errno: errno) }
        let wanted = min(rlim_t(count), limit.rlim_max)
        if wanted > limit.rlim_cur {
            limit.rlim_cur = wanted
            guard unsafe setrlimit(resource, &limit) == 0 else { throw IOError(call: "setrlimit", errno: errno) }
        }
        return Int(clamping: limit.rlim_cur)
    }
}
