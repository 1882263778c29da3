internal import COpenSSL
internal import CallbackModel
internal import Glibc
internal import Synchronization

/// The keys that a server makes session tickets with: the one in use and the one before. A ticket carries its key's
/// name (RFC 5077, section 4).
final class TicketKeys: Sendable {
    private struct Key {
        let name: [UInt8]
        let aes: [UInt8]
        let hmac: [UInt8]
        /// In milliseconds of the monotonic clock.
        let madeAt: UInt64

        init?(now: UInt64) {
            var bytes = [UInt8](repeating: 0, count: 80)
            guard unsafe RAND_bytes(&bytes, CInt(bytes.count)) == 1 else { return nil }
            name = Array(bytes[0..<16])
            aes = Array(bytes[16..<48])
            hmac = Array(bytes[48..<80])
            madeAt = now
        }
    }

    private struct Keys {
        var current: Key?
        var previous: Key?

        mutating func rotate(now: UInt64) {
            previous = current
            current = Key(now: now)
        }
    }

    private let keys = Mutex(Keys())
    private let lifetime: UInt64

    init(lifetime: Duration) {
        self.lifetime = UInt64(lifetime.wholeMilliseconds)
    }

    func rotate() {
        let now = Self.milliseconds
        keys.withLock { $0.rotate(now: now) }
    }

    /// CLOCK_MONOTONIC: the loops that share the keys have none in common.
    private static var milliseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec) / 1_000_000
    }

    /// What SSL_CTX_set_tlsext_ticket_key_evp_cb(3) asks: -1 for an error, 0 if the ticket's key is unknown, 2 if the
    /// client should get a new ticket.
    func crypt(
        name: UnsafeMutablePointer<UInt8>, iv: UnsafeMutablePointer<UInt8>, _ cipher: OpaquePointer,
        _ mac: OpaquePointer, encrypts: Bool, isForOneUse: Bool
    ) -> CInt {
        let now = Self.milliseconds
        return keys.withLock { keys in
            age(&keys, now: now)
            if encrypts {
                guard let key = keys.current, unsafe RAND_bytes(iv, EVP_MAX_IV_LENGTH) == 1 else { return -1 }
                for (index, byte) in key.name.enumerated() { unsafe name[index] = byte }
                return unsafe initialize(cipher, mac, key, iv, encrypts: true) ? 1 : -1
            }
            let wanted = unsafe UnsafeBufferPointer(start: name, count: 16)
            for key in [keys.current, keys.previous] {
                guard let key, unsafe key.name.elementsEqual(wanted) else { continue }
                guard unsafe initialize(cipher, mac, key, iv, encrypts: false) else { return -1 }
                return isForOneUse || key.name != keys.current?.name ? 2 : 1
            }
            return 0
        }
    }

    private func initialize(
        _ cipher: OpaquePointer, _ mac: OpaquePointer, _ key: Key, _ iv: UnsafePointer<UInt8>, encrypts: Bool
    ) -> Bool {
        unsafe callbackserver_init_ticket(cipher, mac, key.aes, key.hmac, key.hmac.count, iv, encrypts ? 1 : 0) == 1
    }

    private func age(_ keys: inout Keys, now: UInt64) {
        if let previous = keys.previous, now >= previous.madeAt + 2 * lifetime { keys.previous = nil }
        if let current = keys.current, now < current.madeAt + lifetime { return }
        keys.rotate(now: now)
        // One that nobody has used for two lifetimes is no key before.
        if let previous = keys.previous, now >= previous.madeAt + 2 * lifetime { keys.previous = nil }
    }
}

let cryptTicket:
    @convention(c) (
        OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?, OpaquePointer?,
        CInt
    ) -> CInt = { ssl, name, iv, cipher, mac, encrypts in
        guard let ssl = unsafe ssl, let name = unsafe name, let iv = unsafe iv, let cipher = unsafe cipher,
            let mac = unsafe mac, let settings = unsafe TLSLayer.of(ssl)?.serverSettings
        else { return -1 }
        return unsafe settings.tickets.crypt(
            name: name, iv: iv, cipher, mac, encrypts: encrypts == 1,
            isForOneUse: SSL_version(ssl) == TLS1_3_VERSION)
    }
