import CallbackServer

/// A topic's name or a filter, taken apart at its slashes (section 4.7). Compared by bytes (MQTT-4.7.3-4).
struct Topic: Hashable {
    let bytes: [UInt8]

    var levels: [ArraySlice<UInt8>] {
        bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    }

    /// `nil` if it cannot be one. Only a filter has wildcards, and they are whole levels (section 4.7.1).
    init?(_ bytes: [UInt8], isFilter: Bool) {
        self.bytes = bytes
        let levels = levels
        guard !bytes.isEmpty, levels.count <= Limits.levels else { return nil }
        for (index, level) in levels.enumerated() where level.contains(where: { $0 == .plus || $0 == .hash }) {
            guard isFilter, level.count == 1 else { return nil }
            guard level.first == .plus || index == levels.count - 1 else { return nil }
        }
    }
}

extension UInt8 {
    static let plus = UInt8(ascii: "+")
    static let hash = UInt8(ascii: "#")
}

/// Filters with their subscribers, and names with their retained messages, level by level.
struct TopicTree {
    final class Node {
        fileprivate var children: [ArraySlice<UInt8>: Node] = [:]
        var subscribers: [ObjectIdentifier: (outbox: Outbox, granted: UInt8)] = [:]
        var retained: Message?

        fileprivate var isEmpty: Bool { children.isEmpty && subscribers.isEmpty && retained == nil }
    }

    private typealias Levels = ArraySlice<ArraySlice<UInt8>>
    private static let one: ArraySlice<UInt8> = [.plus]
    private static let all: ArraySlice<UInt8> = [.hash]

    private let root = Node()

    /// Changes what is at `topic`. A node with nothing in it goes, or old names would fill the memory.
    func update(_ topic: Topic, _ change: (Node) -> Void) {
        func descend(_ node: Node, _ levels: Levels) {
            guard let level = levels.first else { return change(node) }
            let child = node.children[level] ?? Node()
            descend(child, levels.dropFirst())
            node.children[level] = child.isEmpty ? nil : child
        }
        descend(root, topic.levels[...])
    }

    /// Those whose filters match `name`; more than once, if several do.
    func forEachSubscriber(_ name: Topic, _ body: (Outbox, UInt8) -> Void) {
        func tell(_ node: Node) {
            for (outbox, granted) in node.subscribers.values { body(outbox, granted) }
        }
        func descend(_ node: Node, _ levels: Levels, matchesWildcards: Bool = true) {
            // # matches the level above it, too (section 4.7.1.2).
            if matchesWildcards, let child = node.children[Self.all] { tell(child) }
            guard let level = levels.first else { return tell(node) }
            if let child = node.children[level] { descend(child, levels.dropFirst()) }
            if matchesWildcards, let child = node.children[Self.one] { descend(child, levels.dropFirst()) }
        }
        descend(root, name.levels[...], matchesWildcards: !name.isOfServer)
    }

    /// Those whose names `filter` matches.
    func forEachRetained(_ filter: Topic, _ body: (Message) -> Void) {
        func descend(_ node: Node, _ levels: Levels, isRoot: Bool = false) {
            let level = levels.first
            if level == nil || level == Self.all, let message = node.retained { body(message) }
            guard let level else { return }
            guard level == Self.one || level == Self.all else {
                if let child = node.children[level] { descend(child, levels.dropFirst()) }
                return
            }
            for (name, child) in node.children where !(isRoot && name.first == Topic.server) {
                descend(child, level == Self.all ? levels : levels.dropFirst())
            }
        }
        descend(root, filter.levels[...], isRoot: true)
    }
}

extension Topic {
    fileprivate static let server = UInt8(ascii: "$")

    /// No wildcard at the front matches such a name (MQTT-4.7.2-1).
    fileprivate var isOfServer: Bool { bytes.first == Self.server }
}
