import Foundation
import Glibc

/// What an echo server may get wrong.
enum Fault: CaseIterable {
    case none
    case dropsAByte
    case changesAByte
    case doublesAByte
    case repeatsAnOldMessage
    case closesEarly
    case neverAnswers
    case saysMoreAtTheEnd
    case neverCloses
}

/// An echo server on a thread of its own, one client after the other, with a fault from the third message of 64 bytes
/// on.
final class BrokenServer: Sendable {
    let port: Int
    private let listener: Int32

    init(_ fault: Fault) {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                precondition(bind(listener, pointer, length) == 0 && listen(listener, 16) == 0)
                precondition(getsockname(listener, pointer, &length) == 0)
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread {
            while case let client = accept(listener, nil, nil), client >= 0 {
                serve(client, fault)
            }
        }
    }

    deinit {
        // Unlike close alone, this wakes the thread.
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }
}

private func serve(_ client: Int32, _ fault: Fault) {
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    var old: [UInt8] = []
    var total = 0
    defer { close(client) }
    while case let count = recv(client, &buffer, buffer.count, 0), count > 0 {
        total += count
        var answer = Array(buffer[..<count])
        if old.isEmpty { old = Array(answer.prefix(64)) }
        // By bytes: the kernel may bring several messages at once.
        if total > 2 * 64 {
            switch fault {
            case .none, .saysMoreAtTheEnd, .neverCloses: break
            case .dropsAByte: answer.remove(at: count / 2)
            case .changesAByte: answer[count / 2] ^= 1
            case .doublesAByte: answer.insert(answer[count / 2], at: count / 2)
            case .repeatsAnOldMessage: answer = answer.dropLast(64) + old
            case .closesEarly: return
            case .neverAnswers: continue
            }
        }
        send(client, answer, answer.count, Int32(MSG_NOSIGNAL))
    }
    if fault == .saysMoreAtTheEnd { send(client, [1], 1, Int32(MSG_NOSIGNAL)) }
    // Longer than a load waits in a test.
    if fault == .neverCloses { poll(nil, 0, 2000) }
}
