internal import CLibuv
@_spi(Engine) internal import CallbackModel
internal import Glibc

/// One `uv_getaddrinfo`: the resolver blocks, so libuv asks it on a thread of its pool.
@safe final class LibuvResolve {
    typealias Answer = (Result<[SocketAddress], IOError>) -> Void

    private let request = UnsafeMutablePointer<uv_getaddrinfo_t>.allocate(capacity: 1)
    private let host: String
    private let port: UInt16
    private unowned let owner: LibuvLoop
    private var answer: Answer?

    init(host: String, port: UInt16, owner: LibuvLoop, answer: @escaping Answer) {
        self.host = host
        self.port = port
        self.owner = owner
        self.answer = answer
    }

    deinit {
        unsafe request.deallocate()
    }

    func start(on loop: UnsafeMutablePointer<uv_loop_t>) throws(IOError) {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        // Retain 1, released in the callback, which comes in every case but a failure here.
        unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let status = unsafe uv_getaddrinfo(
            loop, request,
            { request, status, list in
                guard let data = unsafe request?.pointee.data else { return }
                unsafe Unmanaged<LibuvResolve>.fromOpaque(data).takeRetainedValue().done(status, list)
                unsafe uv_freeaddrinfo(list)
            }, host, nil, &hints)
        if status != 0 {
            unsafe Unmanaged.passUnretained(self).release()
            throw Self.error(status, host)
        }
    }

    /// The answer is no longer wanted. A call that a thread has begun goes on to its end all the same.
    func cancel() {
        answer = nil
        unsafe UnsafeMutableRawPointer(request).withMemoryRebound(to: uv_req_t.self, capacity: 1) {
            _ = unsafe uv_cancel($0)
        }
    }

    private func done(_ status: CInt, _ list: UnsafeMutablePointer<addrinfo>?) {
        owner.forget(self)
        guard let answer else { return }
        if status != 0 { return answer(.failure(Self.error(status, host))) }
        var addresses: [SocketAddress] = []
        var next = unsafe list
        while let entry = unsafe next {
            var storage = sockaddr_storage()
            let length = unsafe Int(entry.pointee.ai_addrlen)
            unsafe withUnsafeMutableBytes(of: &storage) { raw in
                unsafe raw.copyMemory(from: UnsafeRawBufferPointer(start: entry.pointee.ai_addr, count: length))
            }
            if let address = SocketAddress(storage, length: socklen_t(length))?.with(port: port) {
                addresses.append(address)
            }
            unsafe next = entry.pointee.ai_next
        }
        answer(.success(addresses))
    }

    /// getaddrinfo(3) has errors of its own; each is told by the errno that means the same, and in words.
    private static func error(_ status: CInt, _ host: String) -> IOError {
        let errno: Int32 =
            switch uv_errno_t(rawValue: status) {
            case UV_EAI_NONAME, UV_EAI_NODATA, UV_ENOENT: ENOENT
            case UV_EAI_AGAIN: EAGAIN
            case UV_EAI_MEMORY: ENOMEM
            case UV_EAI_FAMILY, UV_EAI_ADDRFAMILY: EAFNOSUPPORT
            case UV_EAI_CANCELED: ECANCELED
            default: status > -2_000 ? -status : EINVAL
            }
        return IOError(call: "getaddrinfo", errno: errno, detail: "host \"\(host)\"")
    }
}
