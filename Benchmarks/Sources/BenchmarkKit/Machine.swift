internal import Foundation

extension Machine {
    /// The one that this runs on.
    package static var this: Machine {
        let processor = (try? lines(of: "/proc/cpuinfo"))?.first { $0.hasPrefix("model name") }
        let name = processor?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) }
        return Machine(
            processor: name ?? "an unknown processor",
            cores: ProcessInfo.processInfo.activeProcessorCount,
            kernel: output(of: ["uname", "-r"]) ?? "?",
            libuv: output(of: ["pkg-config", "--modversion", "libuv"]) ?? "?",
            openSSL: output(of: ["pkg-config", "--modversion", "openssl"]),
            swift: output(of: ["swift", "--version"]).flatMap(version) ?? "?",
            date: output(of: ["date", "+%Y-%m-%d"]) ?? "?",
            load: loadAverages)
    }

    /// Of the last one, five and fifteen minutes.
    package static var loadAverages: String {
        let line = (try? lines(of: "/proc/loadavg"))?.first
        return line?.split(separator: " ").prefix(3).joined(separator: ", ") ?? "?"
    }

    private static func version(_ line: String) -> String? {
        line.firstMatch(of: /\d+\.\d+(\.\d+)?/).map { String($0.output.0) }
    }
}
