import Testing

@testable import CallbackModel

@Suite struct `Queue of completions` {
    @Test func `gives each once its bytes are sent, in order and once`() {
        var queue = CompletionQueue()
        var ran: [UInt64] = []
        for end in [10, 20, 20, 30] as [UInt64] { queue.append(end: end) { _ in ran.append(end) } }
        func run(upTo position: UInt64) -> [UInt64] {
            ran = []
            while let body = queue.popFirst(upTo: position) { body(.sent) }
            return ran
        }
        #expect(!queue.isDue(at: 9))
        #expect(run(upTo: 9) == [])
        #expect(queue.isDue(at: 10))
        #expect(run(upTo: 25) == [10, 20, 20])
        #expect(run(upTo: 25) == [])
        #expect(!queue.isEmpty)
        #expect(run(upTo: .max) == [30])
        #expect(queue.isEmpty && !queue.isDue(at: .max))
    }

    @Test func `takes back what was appended last`() {
        var queue = CompletionQueue()
        var ran: [Int] = []
        for number in 0..<3 { queue.append(end: UInt64(number)) { _ in ran.append(number) } }
        queue.popFirst(upTo: 0)?(.sent)
        queue.removeLast()
        while let body = queue.popFirst(upTo: .max) { body(.sent) }
        #expect(ran == [0, 1])
        #expect(queue.isEmpty)
    }

    @Test func `behaves like a plain list, whatever comes in which order`() {
        var queue = CompletionQueue()
        var list: [(end: UInt64, number: Int)] = []
        var end: UInt64 = 0
        var position: UInt64 = 0
        var random = SystemRandomNumberGenerator()
        for number in 0..<5_000 {
            switch Int.random(in: 0..<3, using: &random) {
            case 0, 1:
                end += UInt64.random(in: 0...3, using: &random)
                queue.append(end: end) { _ in #expect(list.removeFirst().number == number) }
                list.append((end, number))
            default:
                position = max(position, UInt64.random(in: 0...end, using: &random))
                while let body = queue.popFirst(upTo: position) { body(.sent) }
                #expect(list.first.map { $0.end > position } ?? true)
            }
            #expect(queue.isEmpty == list.isEmpty)
        }
    }
}
