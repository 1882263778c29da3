internal import CallbackModel

extension Scenario {
    /// The scenario of this seed: always the same.
    public static func random(seed: UInt64) -> Scenario {
        var generator = ScenarioGenerator(seed: seed)
        return generator.make()
    }
}

/// Draws scenarios whose outcome does not depend on the kernel's timing.
struct ScenarioGenerator {
    let seed: UInt64
    var random: SplitMix

    init(seed: UInt64) {
        self.seed = seed
        random = SplitMix(seed: seed)
    }

    mutating func make() -> Scenario {
        Scenario(
            "random-\(seed)", source: "seed \(seed)", handler: .script(Script(.echo)),
            peers: [Peer(.send("PING\n"), .read(5), .halfClose, .readToEnd)], notes: nil)
    }
}
