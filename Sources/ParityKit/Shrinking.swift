/// Finds a short scenario in a long one.
public enum Shrinking {
    /// So many attempts are made at most, each of which plays a scenario.
    private static let mostAttempts = 400

    /// Leaves out peers' steps, reactions and actions for as long as `isFailing` still holds.
    ///
    /// What is left out may make a peer wait for ever: `isFailing` should count that as failing only if the whole
    /// scenario failed in that way.
    public static func shrink(_ scenario: Scenario, while isFailing: (Scenario) -> Bool) -> Scenario {
        var best = scenario
        best.timeLimit = min(scenario.timeLimit, .seconds(2))
        var attempts = 0
        var hasChanged = true
        while hasChanged, attempts < mostAttempts {
            hasChanged = false
            for candidate in candidates(of: best) {
                attempts += 1
                if attempts > mostAttempts { break }
                guard isFailing(candidate) else { continue }
                best = candidate
                hasChanged = true
                break
            }
        }
        best.timeLimit = scenario.timeLimit
        return best
    }

    /// The scenario without one thing, the largest things first.
    static func candidates(of scenario: Scenario) -> [Scenario] {
        var candidates: [Scenario] = []
        for number in scenario.peers.indices {
            for step in scenario.peers[number].steps.indices {
                var shorter = scenario
                shorter.peers[number].steps.remove(at: step)
                candidates.append(shorter)
            }
        }
        let scripts = scenario.handler.scripts
        for number in scripts.indices {
            for reaction in scripts[number].reactions.indices {
                var shorter = scripts
                shorter[number].reactions.remove(at: reaction)
                candidates.append(scenario.with(shorter))
                for action in scripts[number].reactions[reaction].actions.indices
                where scripts[number].reactions[reaction].actions.count > 1 {
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
