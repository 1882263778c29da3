/// Finds a short scenario in a long one.
public enum Shrinking {
    /// An attempt that hangs has failed after half a second: good ones take milliseconds.
    private static let attemptLimit: Duration = .milliseconds(500)

    /// Leaves out peers' steps, reactions and actions for as long as `isFailing` still holds and `limit` allows.
    ///
    /// What is left out may make a peer wait for ever: `isFailing` should count that as failing only if the whole
    /// scenario failed in that way.
    public static func shrink(
        _ scenario: Scenario, within limit: Duration = .seconds(60), while isFailing: (Scenario) -> Bool
    ) -> Scenario {
        let deadline = ContinuousClock.now + limit
        var best = scenario
        best.timeLimit = min(scenario.timeLimit, attemptLimit)
        var hasChanged = true
        while hasChanged, ContinuousClock.now < deadline {
            hasChanged = false
            // The place where the last cut succeeded is where the next one is tried.
            var position = 0
            while ContinuousClock.now < deadline {
                let candidates = candidates(of: best)
                guard position < candidates.count else { break }
                if isFailing(candidates[position]) {
                    best = candidates[position]
                    hasChanged = true
                } else {
                    position += 1
                }
            }
        }
        best.timeLimit = scenario.timeLimit
        return best
    }

    /// The scenario with something left out, the largest things first.
    static func candidates(of scenario: Scenario) -> [Scenario] {
        withoutPeers(scenario) + withoutSteps(scenario) + withoutReactions(scenario)
    }

    /// A connection that does nothing: the numbers of the others stay.
    private static func withoutPeers(_ scenario: Scenario) -> [Scenario] {
        scenario.peers.indices.filter { !scenario.peers[$0].steps.isEmpty }.map { number in
            var shorter = scenario
            shorter.peers[number].steps = []
            var scripts = scenario.handler.scripts
            if scripts.indices.contains(number), scripts.count > 1 { scripts[number] = Script() }
            return shorter.with(scripts)
        }
    }

    private static func withoutSteps(_ scenario: Scenario) -> [Scenario] {
        var candidates: [Scenario] = []
        for number in scenario.peers.indices {
            for step in scenario.peers[number].steps.indices {
                var shorter = scenario
                shorter.peers[number].steps.remove(at: step)
                candidates.append(shorter)
            }
        }
        return candidates
    }

    private static func withoutReactions(_ scenario: Scenario) -> [Scenario] {
        var candidates: [Scenario] = []
        let scripts = scenario.handler.scripts
        for number in scripts.indices {
            for reaction in scripts[number].reactions.indices {
                var shorter = scripts
                shorter[number].reactions.remove(at: reaction)
                candidates.append(scenario.with(shorter))
                let actions = scripts[number].reactions[reaction].actions
                for action in actions.indices where actions.count > 1 {
                    var shorter = scripts
                    shorter[number].reactions[reaction].actions.remove(at: action)
                    candidates.append(scenario.with(shorter))
                }
            }
        }
        return candidates
    }
}

extension Scenario.Handler {
    /// The scripts, if it has some.
    var scripts: [Script] {
        switch self {
        case .script(let script): [script]
        case .scripts(let scripts), .clients(let scripts): scripts
        case .closure, .program: []
        }
    }
}

extension Scenario {
    fileprivate func with(_ scripts: [Script]) -> Scenario {
        var copy = self
        switch handler {
        case .script: copy.handler = .script(scripts[0])
        case .scripts: copy.handler = .scripts(scripts)
        case .clients: copy.handler = .clients(scripts)
        case .closure, .program: break
        }
        return copy
    }
}
