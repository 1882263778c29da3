@_spi(Engine) import CallbackModel
import FaultKit
import Glibc
import ParityKit

/// `Breakable soft|hard BUG`, with the fault library before libc: whether faults show the bug.
///
/// Exit status: 0 if all is well, 1 if a bug shows, 64 for bad arguments.
@main
enum BreakableUnderFaults {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let library = FaultLibrary() else { exit(64) }
        let bug = PlantedBug(rawValue: arguments[2])
        guard bug != nil || arguments[2] == "whole" else { exit(64) }
        let participant = Participant(arguments[2]) { options throws(IOError) in
            EventLoop(driver: try BreakableLoop(bug), options: options)
        }
        var result = FaultResult()
        switch arguments[1] {
        case "soft":
            let names = ["tcp_ping_pong", "echo_large", "tcp_shutdown_after_write", "accept_burst", "two_in_turn"]
            let scenarios = Scenario.all.filter { names.contains($0.name) }
            SoftFaults(participant: participant, library: library, seed: 7).play(scenarios, { _ in }, &result)
        case "hard": playHard(HardFaults(participant: participant, library: library), &result)
        default: exit(64)
        }
        for failure in result.failures { print(failure.text) }
        // Not exit(3): a loop that hangs is still at it.
        fflush(nil)
        _exit(result.failures.isEmpty ? 0 : 1)
    }

    /// What the small engine is made for, read and write, until something is wrong.
    private static func playHard(_ faults: HardFaults, _ result: inout FaultResult) {
        for (call, errno) in [("read", "ECONNRESET"), ("write", "ENOMEM")] {
            for isForEver in [false, true] {
                for number in 1...4 where result.failures.isEmpty {
                    let plan = FaultPlan.hard(call: call, errno: errno, at: number, isForEver: isForEver)
                    faults.play(.echo, plan, &result)
                }
            }
        }
    }
}
