@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import Synchronization

/// One getaddrinfo(3), which blocks.
func lookUp(_ host: String, port: UInt16) -> Result<[SocketAddress], IOError> {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = unsafe getaddrinfo(host, nil, &hints, &list)
    let number = errno
    guard status == 0 else { return .failure(lookUpError(status, number, host)) }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
        unsafe next = entry.pointee.ai_next
        var storage = sockaddr_storage()
        let length = unsafe min(Int(entry.pointee.ai_addrlen), MemoryLayout<sockaddr_storage>.size)
        unsafe memcpy(&storage, entry.pointee.ai_addr, length)
        guard let address = SocketAddress(storage, length: socklen_t(length)) else { continue }
        addresses.append(address.with(port: port))
    }
    return .success(addresses)
}

/// The resolver's own errors, each told by the errno that means the same.
private func lookUpError(_ status: Int32, _ number: Int32, _ host: String) -> IOError {
    // EAI_NODATA and EAI_ADDRFAMILY are hidden behind _GNU_SOURCE.
    let (noData, addressFamily): (Int32, Int32) = (-5, -9)
    let errno: Int32 =
        switch status {
        case EAI_NONAME, noData: ENOENT
        case EAI_AGAIN: EAGAIN
        case EAI_MEMORY: ENOMEM
        case EAI_FAMILY, addressFamily: EAFNOSUPPORT
        case EAI_SYSTEM: number
        default: EINVAL
        }
    return IOError(call: "getaddrinfo", errno: errno, detail: "host \"\(host)\"")
}

/// The way of an answer from its thread to the loop.
final class LookUpResult: Sendable {
    private let result = Mutex<Result<[SocketAddress], IOError>?>(nil)

    func set(_ value: Result<[SocketAddress], IOError>) {
        result.withLock { $0 = value }
    }

    func get() -> Result<[SocketAddress], IOError>? {
        result.withLock { $0 }
    }
}
