import Glibc

/// How large a test is: small in the suite, and what the environment says where the full figures are wanted.
///
/// - Parameters:
///   - variable: such as `CALLBACKSERVER_IDLE_CLIENTS`; a whole number.
///   - size: what the suite uses.
public func size(_ variable: String, orElse size: Int) -> Int {
    guard let text = getenv(variable) else { return size }
    guard let wanted = Int(String(cString: text)), wanted > 0 else {
        preconditionFailure("\(variable) is \"\(String(cString: text))\", not a whole number above 0")
    }
    return wanted
}

/// Whether a sanitizer is at work, which keeps memory that was given back: then figures of memory say nothing.
public let isSanitized = dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil
