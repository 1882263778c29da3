import CallbackServer
import ParityKit
import Testing

@Suite struct `Scenarios` {
    @Test func `stand`() { #expect(!Scenario.all.isEmpty) }
}
