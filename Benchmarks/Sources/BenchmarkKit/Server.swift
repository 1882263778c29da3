internal import Foundation

/// What a server is asked to do with what it receives.
package enum ServerMode: String, Sendable {
    /// Send it back.
    case echo
    /// Send it back with one write for each line.
    case lines
    /// Send it to everyone who is connected.
    case fanOut = "fan-out"
    /// Send it back, over TLS. The files of the certificate and of its key are the last two arguments.
    case tls
}

/// A program under test.
package struct Server: Sendable {
    /// As `--server` names it.
    package let id: String
    package let title: String
    /// Whether it is another library than the one measured here: absent ones are reported and left out.
    package let isPeer: Bool
    /// The arguments that start it, the program first; nothing for a mode that it does not have.
    package let command: @Sendable (ServerMode) -> [String]?
    /// Descriptors that it can watch at most.
    package var descriptorLimit = Int.max
    /// Workloads that it takes part in; nil for all of its modes.
    package var workloads: Set<String>? = nil
    /// How its version is asked.
    package var versionCommand: [String]? = nil
}

/// Where the programs are.
package struct Programs: Sendable {
    /// The folder of the built executables.
    package let built: String
    /// The nested package's folder.
    package let package: String

    /// Beside the running executable, and where this file was when it was compiled.
    package static var ofThisPackage: Programs {
        let executable = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return Programs(built: executable.deletingLastPathComponent().path, package: package.path)
    }

    package init(built: String, package: String) {
        self.built = built
        self.package = package
    }

    /// All servers, the yardstick first.
    package var servers: [Server] {
        yardsticks + engines + peers + peersOfGroups
    }

    private var yardsticks: [Server] {
        let libuv = built + "/echo-libuv-c"
        let fanOut = built + "/fan-out-libuv-c"
        let epoll = built + "/echo-epoll-c"
        let tls = built + "/echo-libuv-tls-c"
        return [
            Server(id: "c-libuv", title: "C libuv", isPeer: false) {
                switch $0 {
                case .echo: [libuv]
                case .lines: [libuv, "lines"]
                case .fanOut: [fanOut]
                case .tls: nil
                }
            },
            Server(id: "c-libuv-batched", title: "C libuv, batched by hand", isPeer: false) {
                $0 == .lines ? [libuv, "batched-lines"] : nil
            },
            Server(id: "c-epoll", title: "C epoll", isPeer: false) { $0 == .echo ? [epoll] : nil },
            Server(id: "c-tls", title: "C libuv and OpenSSL", isPeer: false) { $0 == .tls ? [tls] : nil },
        ]
    }

    private var engines: [Server] {
        let program = built + "/echo-callbackserver"
        return ["libuv", "epoll", "poll", "select"].map { engine in
            Server(
                id: engine, title: "\(engine) engine", isPeer: false,
                command: { $0 == .tls ? nil : [program, "--engine", engine, "--mode", $0.rawValue] },
                // FD_SETSIZE (select(2)).
                descriptorLimit: engine == "select" ? 1024 : Int.max)
        } + [
            // As much as libuv suggests; the default is four times as much, which is what uvloop reads.
            Server(
                id: "libuv-64k", title: "libuv engine, reading 64 KiB", isPeer: false,
                command: { [program, "--read-buffer", "65536", "--mode", $0.rawValue] },
                workloads: ["bulk-64k", "bulk-1m"])
        ] + groups + [asynchronous, encrypted]
    }

    private var encrypted: Server {
        let program = built + "/echo-tls"
        return Server(id: "tls", title: "libuv engine, TLS", isPeer: false) { $0 == .tls ? [program] : nil }
    }

    /// A task for each connection.
    private var asynchronous: Server {
        let program = built + "/echo-async"
        return Server(
            id: "async", title: "libuv engine, CallbackAsync", isPeer: false,
            command: { $0 == .echo ? [program] : nil }, workloads: ["round-trip", "echo-64-50", "echo-64-500"])
    }

    /// On the one core that every server has: what more loops cost when nothing is gained by them.
    private var groups: [Server] {
        let program = built + "/echo-callbackserver"
        return [1, 2].map { count in
            Server(
                id: "group-\(count)", title: "libuv engine, a group of \(count)", isPeer: false,
                command: { $0 == .echo ? [program, "--loops", "\(count)"] : nil },
                workloads: Self.workloadsOfGroups)
        }
    }

    private var peers: [Server] {
        let nio = built + "/echo-nio"
        let node = package + "/Peers/node/server.js"
        let uvloop = package + "/Peers/uvloop/server.py"
        return [
            Server(id: "nio", title: "SwiftNIO", isPeer: true, command: { [nio, $0.rawValue] }),
            Server(
                id: "nio-async", title: "SwiftNIO, NIOAsyncChannel", isPeer: true,
                command: { $0 == .echo ? [nio, "async"] : nil }, workloads: ["echo-64-50", "echo-64-500"]),
            Server(
                id: "node", title: "Node", isPeer: true, command: { ["node", node, $0.rawValue] },
                versionCommand: ["node", "--version"]),
            Server(
                id: "uvloop", title: "uvloop", isPeer: true,
                command: { $0 == .tls ? nil : ["python3", uvloop, $0.rawValue] },
                versionCommand: [
                    "python3", "-c",
                    "import sys, uvloop; print(uvloop.__version__, 'on Python', sys.version.split()[0])",
                ]),
            Server(
                id: "go", title: "Go", isPeer: true, command: { [goProgram, $0.rawValue] },
                versionCommand: ["go", "version"]),
        ]
    }

    /// Beside the group of two loops, on the one core that every server has.
    private var peersOfGroups: [Server] {
        let (libuv, nio, node) = (built + "/echo-libuv-loops-c", built + "/echo-nio", package + "/Peers/node/server.js")
        let commands: [(id: String, title: String, command: [String], version: [String]?)] = [
            ("c-libuv-2", "C libuv, two loops with SO_REUSEPORT", [libuv], nil),
            ("nio-2", "SwiftNIO, two loops", [nio], nil),
            ("node-2", "Node, a cluster of two", ["node", node], ["node", "--version"]),
            ("go-2", "Go, GOMAXPROCS 2", [goProgram], ["go", "version"]),
        ]
        return commands.map { id, title, command, version in
            Server(
                id: id, title: title, isPeer: true,
                command: { $0 == .echo ? command + [$0.rawValue, "2"] : nil }, workloads: Self.workloadsOfGroups,
                versionCommand: version)
        }
    }

    private static let workloadsOfGroups: Set = ["echo-64-50", "echo-64-500"]

    var goProgram: String { built + "/echo-go" }
    var goSource: String { package + "/Peers/go/main.go" }
}

/// A server that can be measured here, or why not.
package struct Availability {
    package let server: Server
    /// Its version, if it tells one.
    package let version: String?
    /// Why it is left out; nil if it is not.
    package let absence: String?
}

extension Programs {
    /// Looks which servers are there, and builds Go's if Go is.
    package func availability(of servers: [Server]) -> [Availability] {
        servers.map { server in
            var version: String?
            if let command = server.versionCommand {
                version = output(of: command)
                guard version != nil else {
                    return Availability(server: server, version: nil, absence: "\(command[0]) has no such thing here")
                }
            }
            if server.id.hasPrefix("go"), output(of: ["go", "build", "-o", goProgram, goSource]) == nil {
                return Availability(server: server, version: version, absence: "go cannot build \(goSource)")
            }
            let program = [.echo, .lines, .tls].lazy.compactMap(server.command).first?.first ?? ""
            if program.hasPrefix("/"), !FileManager.default.isExecutableFile(atPath: program) {
                return Availability(
                    server: server, version: version,
                    absence: "not built: swift build -c release --package-path Benchmarks")
            }
            if server.id.hasPrefix("nio") {
                version = ["swift-nio", "swift-nio-ssl"].compactMap { identity in
                    resolvedVersion(of: identity).map { "\(identity) \($0)" }
                }.joined(separator: ", ")
            }
            return Availability(server: server, version: version, absence: nil)
        }
    }
}

extension Programs {
    /// What Package.resolved says of a dependency.
    private func resolvedVersion(of identity: String) -> String? {
        let lines = (try? lines(of: package + "/Package.resolved")) ?? []
        let entry = lines.drop { !$0.contains("\"identity\" : \"\(identity)\"") }
        return entry.first { $0.contains("\"version\"") }?.split(separator: "\"").last.map(String.init)
    }
}

/// The first line that a command prints; nil if it fails or is not there.
func output(of command: [String]) -> String? {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = command
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { return nil }
    return text.split(separator: "\n").first.map(String.init) ?? ""
}
