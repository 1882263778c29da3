internal import CLoad
internal import Glibc

/// A server under test, as a process on a core of its own.
package final class ServerProcess {
    package let port: Int
    private let name: String
    private let process: pid_t
    private let output: Int32
    private var isRunning = true

    /// How long a server may take to say where it listens, and to end; a broken one never would.
    private static let patienceMilliseconds = 20_000

    package init(_ name: String, command: [String], core: Int) throws(BenchmarkError) {
        var arguments = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var process: pid_t = 0
        var output: Int32 = -1
        let error = process_start(&arguments, Int32(core), &process, &output)
        guard error == 0 else {
            throw BenchmarkError("\(command[0]) does not start: \(String(cString: strerror(error)))")
        }
        self.name = name
        self.process = process
        self.output = output
        do throws(BenchmarkError) {
            port = try Self.readPort(from: output, of: name)
        } catch {
            kill(process, SIGKILL)
            waitpid(process, nil, 0)
            Glibc.close(output)
            throw error
        }
    }

    deinit {
        if isRunning {
            kill(process, SIGKILL)
            waitpid(process, nil, 0)
        }
        Glibc.close(output)
    }

    /// Reads "Listening on port N".
    private static func readPort(from output: Int32, of name: String) throws(BenchmarkError) -> Int {
        var line: [UInt8] = []
        // Far more than the line has.
        while line.count < 256, line.last != UInt8(ascii: "\n") {
            var entry = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            let ready = poll(&entry, 1, Int32(patienceMilliseconds))
            if ready < 0, errno == EINTR { continue }
            var byte: UInt8 = 0
            guard ready > 0, read(output, &byte, 1) == 1 else { break }
            line.append(byte)
        }
        let text = String(decoding: line, as: UTF8.self)
        let words = text.split { $0 == " " || $0 == "\n" }
        guard text.hasPrefix("Listening on port "), words.count == 4, let port = Int(words[3]) else {
            throw BenchmarkError("\(name) does not say where it listens, but \"\(text)\"")
        }
        return port
    }

    /// Processor time of all its threads so far, in seconds, and of the processes that it has begun and that live.
    package func processorTime() throws(BenchmarkError) -> Double {
        let children = try lines(of: "/proc/\(process)/task/\(process)/children").flatMap { $0.split(separator: " ") }
        var sum = 0.0
        for one in [process] + children.compactMap({ pid_t($0) }) {
            let nanoseconds = process_cpu_nanoseconds(one)
            guard nanoseconds >= 0 else { throw BenchmarkError("\(name) has ended") }
            sum += Double(nanoseconds) / 1e9
        }
        return sum
    }

    /// Bytes of its memory that are in RAM (proc_pid_smaps(5); `VmRSS` would be some pages off).
    package func residentBytes() throws(BenchmarkError) -> Int {
        let path = "/proc/\(process)/smaps_rollup"
        for line in try lines(of: path) where line.hasPrefix("Rss:") {
            let words = line.split(separator: " ")
            if words.count > 1, let kibibytes = Int(words[1]) { return kibibytes * 1024 }
        }
        throw BenchmarkError("\(path) has no line Rss")
    }

    /// Ends it; throws unless its status is 0.
    package func stop() throws(BenchmarkError) {
        guard isRunning else { return }
        kill(process, SIGTERM)
        var status: Int32 = 0
        for _ in 0..<Self.patienceMilliseconds {
            let ended = waitpid(process, &status, WNOHANG)
            guard ended == 0 || (ended < 0 && errno == EINTR) else {
                isRunning = false
                if ended == process, status == 0 { return }
                throw BenchmarkError("\(name) ended with the wait status \(status)")
            }
            var millisecond = timespec(tv_sec: 0, tv_nsec: 1_000_000)
            nanosleep(&millisecond, nil)
        }
        throw BenchmarkError("\(name) has not ended after SIGTERM")
    }
}

/// The lines of a small file.
func lines(of path: String) throws(BenchmarkError) -> [Substring] {
    guard let file = fopen(path, "r") else {
        throw BenchmarkError("\(path): \(String(cString: strerror(errno)))")
    }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = fread(&buffer, 1, buffer.count, file)
        if count == 0 { break }
        bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
}

/// The two cores of a measurement, and the limit on descriptors.
package struct Cores {
    package let load: Int
    package let server: Int

    /// Puts this process on the one core, so that it does not take time from the server on the other.
    package static func take() throws(BenchmarkError) -> Cores {
        var first: Int32 = 0
        var last: Int32 = 0
        guard process_cores(&first, &last) > 0, process_pin(first) == 0 else {
            throw BenchmarkError("the process cannot be kept on one core")
        }
        return Cores(load: Int(first), server: Int(last))
    }

    /// Descriptors that a process may open, after the limit was raised as far as is allowed.
    package static func raiseDescriptorLimit() -> Int {
        process_raise_descriptor_limit()
    }
}
