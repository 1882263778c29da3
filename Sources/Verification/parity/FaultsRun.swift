import CallbackServer
import FaultKit
import Glibc
import ParityKit

/// Which faults `--faults` injects.
enum FaultMode: String, CaseIterable {
    /// What must change nothing: short reads and writes, EINTR, EAGAIN, late events, ECONNABORTED from accept.
    case soft
    /// Each call of a kind fails, one after the other, once and for ever.
    case hard
}

/// What is run under faults.
struct FaultSelection {
    let mode: FaultMode
    let seed: UInt64
    /// Soft: so many faults in all. Hard: the last call that fails; nothing until none is left.
    let count: Int?
    /// Only so many random scenarios, or only these, if given.
    let random: Int?
    let scenarios: [Scenario]?
    /// Only this case of the sweep, if given.
    let workload: HardWorkload?
    let plan: FaultPlan?
}

/// Each engine in a process of its own, which has the fault library before libc: a crash is a row of the table.
struct FaultsRun {
    let engines: [Engine]
    /// The options that the processes get, but for the engine.
    let arguments: [String]
    let seed: UInt64

    private static let heading = ["engine", "faults", "played", "bytes", "lost", "descriptors", "stall", "result"]
    private static let widths = [9, 12, 9, 16, 8, 14, 10, 0]

    /// Runs all; whether all is well.
    func run() throws(FaultsError) -> Bool {
        let program = try Self.pathOfThisProgram()
        let library = program.folder + "/" + FaultLibrary.fileName
        guard unsafe access(library, R_OK) == 0 else { throw FaultsError.noLibrary(library) }
        Terminal.printLine("seed \(seed), libuv \(Self.libuvVersion)")
        printRow(Self.heading)
        var isWell = true
        for engine in engines {
            let start = ContinuousClock.now
            var last = "its beginning"
            var cells: [String] = []
            let child = try ChildRun(
                [program] + arguments + ["--engine", engine.rawValue],
                ["LD_PRELOAD": library, "FAULTS_THREADS": "armed"])
            let status = child.run { line in
                switch line.first {
                case "~":
                    last = String(line.dropFirst())
                    Terminal.progress("\(engine.rawValue): \(last)")
                case "=": cells = line.dropFirst().split(separator: "\t").map(String.init)
                default:
                    Terminal.progress("")
                    Terminal.printLine(line)
                }
            }
            Terminal.progress("")
            if status == "0", !cells.isEmpty {
                cells.append("well")
            } else {
                isWell = false
                while cells.count < Self.heading.count - 2 { cells.append("-") }
                cells.append(status == "1" ? "FAILED" : "ENDED BY \(status) at \(last)")
            }
            let time = (ContinuousClock.now - start).milliseconds
            printRow([engine.rawValue] + cells.dropLast() + [cells.last.map { "\($0), \(time) ms" } ?? ""])
        }
        return isWell
    }

    private func printRow(_ cells: [String]) {
        Terminal.printLine(zip(cells, Self.widths).map { $0.padded(to: $1) }.joined())
    }

    private static var libuvVersion: String {
        guard let function = unsafe dlsym(nil, "uv_version_string") else { return "unknown" }
        let version = unsafe unsafeBitCast(function, to: (@convention(c) () -> UnsafePointer<CChar>).self)
        return unsafe String(cString: version())
    }

    private static func pathOfThisProgram() throws(FaultsError) -> String {
        var room = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink("/proc/self/exe", &room, room.count)
        guard count > 0 else { throw FaultsError.failed("readlink", errno) }
        return String(decoding: room[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension String {
    /// Without the last component of a path.
    fileprivate var folder: String { lastIndex(of: "/").map { String(self[..<$0]) } ?? "." }
}

/// Why there was no run.
enum FaultsError: Error, CustomStringConvertible {
    case noLibrary(String)
    case failed(String, Int32)

    var description: String {
        switch self {
        case .noLibrary(let path):
            "\(path) is missing: `swift build` makes it, with the same options as `swift run` (-c release), "
                + "`swift run parity` alone does not"
        case .failed(let call, let errno): "\(call): \(unsafe String(cString: strerror(errno)))"
        }
    }
}
