internal import CLinux
@_spi(Engine) internal import CallbackModel
internal import Glibc
internal import Synchronization

/// Asks getaddrinfo(3), which blocks, on threads of its own, and brings the answers back to the loop.
@safe final class Resolver {
    typealias Answer = (Result<[SocketAddress], IOError>) -> Void

    private unowned let loop: ReadinessLoop
    private var answers: [UInt64: Answer] = [:]
    private var questions: UInt64 = 0
    private var queue: ResolverQueue?
    private var token: Token?

    init(loop: ReadinessLoop) {
        self.loop = loop
    }

    /// Whether an answer is awaited.
    var isBusy: Bool { !answers.isEmpty }

    func ask(host: String, port: UInt16, _ answer: @escaping Answer) throws(IOError) {
        let queue = try openQueue()
        questions += 1
        try queue.ask(ResolverQueue.Question(id: questions, host: host, port: port))
        answers[questions] = answer
    }

    private func openQueue() throws(IOError) -> ResolverQueue {
        if let queue { return queue }
        let descriptor = linux_eventfd()
        guard descriptor >= 0 else { throw IOError(call: "eventfd", errno: errno) }
        let token = loop.enter(descriptor, .resolver)
        do throws(IOError) {
            try loop.poller.change(token, from: [], to: .readable)
        } catch {
            loop.leave(token)
            Kernel.close(descriptor)
            throw error
        }
        self.token = token
        let queue = ResolverQueue(counter: descriptor)
        self.queue = queue
        return queue
    }

    func becameReady() {
        guard let queue else { return }
        for (id, result) in queue.takeAnswers() { answers.removeValue(forKey: id)?(result) }
    }

    /// Waits for questions that a thread has begun to ask: nothing can stop getaddrinfo(3).
    func close() {
        guard let queue, let token else { return }
        queue.finish()
        try? loop.poller.change(token, from: .readable, to: [])
        loop.leave(token)
        Kernel.close(token.descriptor)
        self.queue = nil
        answers = [:]
    }
}

/// What the loop and the threads share.
private final class ResolverQueue: Sendable {
    struct Question: Sendable {
        let id: UInt64
        let host: String
        let port: UInt16
    }

    typealias Answers = [(id: UInt64, result: Result<[SocketAddress], IOError>)]

    private struct State {
        var questions: [Question] = []
        var answers: Answers = []
        var threads = 0
    }

    /// A resolver that does not answer holds a thread for many seconds; four keep one bad name from stopping all.
    private static let mostThreads = 4

    private let state = Mutex(State())
    /// An eventfd(2) counter, raised for each answer.
    private let counter: Int32

    init(counter: Int32) {
        self.counter = counter
    }

    func ask(_ question: Question) throws(IOError) {
        let needsThread = state.withLock { state in
            state.questions.append(question)
            guard state.threads < Self.mostThreads else { return false }
            state.threads += 1
            return true
        }
        guard needsThread else { return }
        let status = startThread()
        guard status != 0 else { return }
        let isLost = state.withLock { state in
            state.threads -= 1
            // Another thread may still come to it; without one, nobody would.
            guard state.threads == 0 else { return false }
            state.questions.removeAll { $0.id == question.id }
            return true
        }
        if isLost { throw IOError(call: "pthread_create", errno: status) }
    }

    private func startThread() -> Int32 {
        // Retain 1, released by the thread.
        let argument = unsafe Unmanaged.passRetained(self).toOpaque()
        var thread = pthread_t()
        let status = unsafe pthread_create(
            &thread, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                unsafe Unmanaged<ResolverQueue>.fromOpaque(argument).takeRetainedValue().answerAll()
                return nil
            }, argument)
        if status == 0 {
            pthread_detach(thread)
        } else {
            unsafe Unmanaged<ResolverQueue>.fromOpaque(argument).release()
        }
        return status
    }

    /// A thread's whole life: it ends when no question is left.
    private func answerAll() {
        while let question = nextQuestion() {
            let result = lookUp(question)
            state.withLock { state in
                state.answers.append((question.id, result))
                raiseCounter()
            }
        }
    }

    private func nextQuestion() -> Question? {
        state.withLock { state in
            if !state.questions.isEmpty { return state.questions.removeFirst() }
            state.threads -= 1
            // Inside the lock, as above: once `finish` has seen that no thread is left, the counter is closed.
            raiseCounter()
            return nil
        }
    }

    private func raiseCounter() {
        var one: UInt64 = 1
        _ = unsafe write(counter, &one, MemoryLayout<UInt64>.size)
    }

    func takeAnswers() -> Answers {
        var count: UInt64 = 0
        _ = unsafe read(counter, &count, MemoryLayout<UInt64>.size)
        return state.withLock { state in
            let answers = state.answers
            state.answers = []
            return answers
        }
    }

    /// Drops the questions that nobody has begun to ask and waits until the threads have gone.
    func finish() {
        state.withLock { $0.questions = [] }
        while state.withLock({ $0.threads > 0 }) {
            var entry = pollfd(fd: counter, events: Int16(POLLIN), revents: 0)
            unsafe poll(&entry, 1, -1)
            _ = takeAnswers()
        }
    }
}

/// One getaddrinfo(3).
private func lookUp(_ question: ResolverQueue.Question) -> Result<[SocketAddress], IOError> {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = unsafe getaddrinfo(question.host, nil, &hints, &list)
    let number = errno
    guard status == 0 else { return .failure(resolverError(status, number, question.host)) }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
        unsafe next = entry.pointee.ai_next
        var storage = sockaddr_storage()
        let length = unsafe min(Int(entry.pointee.ai_addrlen), MemoryLayout<sockaddr_storage>.size)
        unsafe memcpy(&storage, entry.pointee.ai_addr, length)
        guard let address = SocketAddress(storage, length: socklen_t(length)) else { continue }
        addresses.append(address.with(port: question.port))
    }
    return .success(addresses)
}

/// The resolver's own errors, each told by the errno that means the same.
private func resolverError(_ status: Int32, _ number: Int32, _ host: String) -> IOError {
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
