import BenchmarkKit
import Foundation
import Testing

/// The program itself, with all servers and workloads, at the size at which only bytes count.
@Suite struct `The benchmark at its smallest` {
    @Test(.timeLimit(.minutes(10)))
    func `every server of every workload sends every byte back`() throws {
        let process = Process()
        process.executableURL = URL(filePath: Programs.ofThisPackage.built + "/bench")
        process.arguments = ["--smoke"]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
    }
}
