internal import Glibc

/// One getaddrinfo(3) for a name, which blocks. The addresses have no port.
func lookUp(name: String) -> Result<[SocketAddress], IOError> {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    errno = 0
    let status = unsafe getaddrinfo(name, nil, &hints, &list)
    let number = errno
    guard status == 0 else {
        // Its own errno may tell of one that has passed meanwhile.
        let shortage = isDescriptorShortage(number) ? number : descriptorShortage()
        let errno = shortage ?? resolverErrno(status, number)
        return .failure(IOError(call: "getaddrinfo", errno: errno, detail: "host \"\(name)\""))
    }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
        unsafe next = entry.pointee.ai_next
        var storage = sockaddr_storage()
        let length = unsafe min(Int(entry.pointee.ai_addrlen), MemoryLayout<sockaddr_storage>.size)
        unsafe memcpy(&storage, entry.pointee.ai_addr, length)
        if let address = SocketAddress(storage, length: socklen_t(length)) { addresses.append(address) }
    }
    return .success(addresses)
}

/// EMFILE or ENFILE if there is no descriptor now. The resolver can then open neither its files nor a socket, and takes
/// that for "no such name".
func descriptorShortage() -> Int32? {
    let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
    guard descriptor < 0 else {
        _ = close(descriptor)
        return nil
    }
    return isDescriptorShortage(errno) ? errno : nil
}

private func isDescriptorShortage(_ number: Int32) -> Bool { number == EMFILE || number == ENFILE }

/// The resolver's own errors, each told by the errno that means the same.
private func resolverErrno(_ status: Int32, _ number: Int32) -> Int32 {
    // EAI_NODATA and EAI_ADDRFAMILY are hidden behind _GNU_SOURCE.
    let (noData, addressFamily): (Int32, Int32) = (-5, -9)
    return switch status {
    case EAI_NONAME, noData: ENOENT
    case EAI_AGAIN: EAGAIN
    case EAI_MEMORY: ENOMEM
    case EAI_FAMILY, addressFamily: EAFNOSUPPORT
    case EAI_SYSTEM: number
    default: EINVAL
    }
}
