import CallbackServer
import Dispatch
import ExampleTestSupport
import Foundation
import Glibc
import Testing

@testable import rooms

@Suite(.timeLimit(.minutes(20)))
struct `Rooms` {
    /// One who only listens tells the order of all lines. The others have to have the same without their own.
    @Test(arguments: Engine.allCases)
    func `members on three loops see the same lines in the same order`(engine: Engine) throws {
        let rooms = try Example("rooms", engine, ["--loops", "3"])
        let listener = try join(rooms, "hall")
        let members = try (0..<8).map { _ in try join(rooms, "hall") }
        #expect(Set(members.map { $0.name.prefix(2) }).count == 3, "not on three loops")
        let count = 250
        let authors = members.map { member in
            onThread { for number in 0..<count { try member.client.send("line \(number)\n") } }
        }
        let readers = ([listener] + members).map { member in
            let expected = member.name == listener.name ? 8 * count : 7 * count
            return onThread {
                var heard: [String] = []
                while heard.count < expected {
                    let line = try member.client.receiveLine()
                    if line.hasPrefix("<") { heard.append(line) }
                }
                return heard
            }
        }
        for author in authors { try author.value(timeLimit: Example.patience) }
        let all = try readers[0].value(timeLimit: Example.patience)
        for (member, reader) in zip(members, readers.dropFirst()) {
            let own = (0..<count).map { "<\(member.name)> line \($0)" }
            #expect(all.filter { $0.hasPrefix("<\(member.name)>") } == own)
            #expect(
                try reader.value(timeLimit: Example.patience) == all.filter { !$0.hasPrefix("<\(member.name)>") })
        }
        try stop(rooms, [listener] + members)
    }

    @Test(arguments: Engine.allCases)
    func `one who does not read is cut off, and the others get all`(engine: Engine) throws {
        let rooms = try Example("rooms", engine, ["--loops", "2"])
        let (author, reader) = (try join(rooms, "hall"), try join(rooms, "hall"))
        try author.client.expect("* \(reader.name) joined\n")
        let stuck = try rooms.client(receiveBuffer: 4_096)
        let name = try Self.enter(stuck, "hall")
        for other in [author, reader] { try other.client.expect("* \(name) joined\n") }
        let memory = try peakResidentBytes(of: rooms.child)
        let text = String(repeating: "y", count: 500)
        let lines = String(repeating: text + "\n", count: 100)
        let heard = "<\(author.name)> \(text)"
        // One who reads is never far behind: the next hundred wait until it has these. 20 MB in all.
        var isTold = false
        for _ in 0..<400 {
            try author.client.send(lines)
            var count = 0
            while count < 100 {
                let line = try reader.client.receiveLine()
                if line == heard { count += 1 } else { try #require(line == "* \(name) left") }
                if line != heard { isTold = true }
            }
        }
        #expect(isTold)
        #expect(try stuck.receiveUntilOver().ending == .reset)
        #expect(try peakResidentBytes(of: rooms.child) - memory < 10_000_000)
        try stop(rooms, [author, reader])
    }

    @Test(arguments: Engine.allCases)
    func `members join, leave and hear only their room`(engine: Engine) throws {
        let rooms = try Example("rooms", engine, ["--loops", "3"])
        let ann = try join(rooms, "hall")
        let bob = try join(rooms, "hall")
        try ann.client.expect("* \(bob.name) joined\n")
        try ann.client.ask("/who\n", "* here: \([ann.name, bob.name].sorted().joined(separator: ", "))\n")
        try bob.client.ask("/join attic\n", "* you joined attic\n")
        try ann.client.expect("* \(bob.name) left\n")
        // The answer comes behind what bob would have heard.
        try ann.client.send("alone\n")
        try ann.client.ask("/who\n", "* here: \(ann.name)\n")
        try bob.client.ask("/who\n", "* here: \(bob.name)\n")
        try bob.client.ask("/leave\n", "* you left attic\n")
        try bob.client.ask("hello\n", "ERROR you are in no room\n")
        try bob.client.ask("/leave\n/who\n", "ERROR you are in no room\nERROR you are in no room\n")
        for wrong in ["/join", "/join two words", "/join \u{1b}", "/join " + String(repeating: "x", count: 21)] {
            try bob.client.ask(wrong + "\n", "ERROR a room's name is 1 to 20 letters or digits\n")
        }
        let nc = try run("nc", ["-N", "127.0.0.1", "\(rooms.port)"], input: "/join hall\nfrom \u{1b}nc\n/quit\n")
        #expect(nc.hasSuffix("* you joined hall\n"))
        let name = try #require(nc.firstMatch(of: /\* you are (.+?):/)?.output.1)
        try ann.client.expect("* \(name) joined\n<\(name)> from \\u{1b}nc\n* \(name) left\n")
        try stop(rooms, [ann, bob])
    }

    /// All at full speed. What follows their end shows that nobody waits for them, and that they are no more in the
    /// room.
    @Test(arguments: Engine.allCases)
    func `members that vanish in the middle disturb nobody`(engine: Engine) throws {
        let rooms = try Example("rooms", engine, ["--loops", "3"])
        let ann = try join(rooms, "hall")
        for _ in 0..<20 {
            let bob = try join(rooms, "hall")
            try bob.client.send(String(repeating: "gone\n", count: 100) + "not finish")
            try bob.client.reset()
            try ann.client.expect("* \(bob.name) joined\n")
            var line = ""
            repeat { line = try ann.client.receiveLine() } while line == "<\(bob.name)> gone"
            #expect(line == "* \(bob.name) left")
        }
        try ann.client.ask("/who\n", "* here: \(ann.name)\n")
        try stop(rooms, [ann])
    }

    /// One loop hangs, and has a member of the room. The others are read until a bound, and go on behind it.
    @Test(arguments: Engine.allCases)
    func `a loop that hangs has few lines waiting for it, and keeps nobody else from going`(engine: Engine) throws {
        try inThisProcess(engine) { house in
            let room = try #require((0...).lazy.map { "hall\($0)" }.first { house.doors.owner(of: $0) == 0 })
            // In turns: the first is on loop 0.
            let ann = try house.join(room)
            let bob = try house.join(room)
            try ann.client.expect("* \(bob.name) joined\n")
            let goOn = DispatchSemaphore(value: 0)
            house.members[1].execute { _ in goOn.wait() }
            let line = String(repeating: "z", count: 400)
            let sentCount = try ann.client.sendUntilFull(
                Array(String(repeating: line + "\n", count: 100).utf8), most: 64 << 20)
            let floor = try #require(house.doors[0])
            #expect(try answer(of: floor) { $0.requests } == Limits.requests)
            // Let in by loop 0, although loop 1 has not heard of it.
            let cat = try house.join(room)
            try cat.client.send("/quit\n")
            try cat.client.expectEnd()
            goOn.signal()
            for _ in 0..<sentCount / (line.utf8.count + 1) {
                var heard = ""
                repeat { heard = try bob.client.receiveLine() } while heard.hasPrefix("* \(cat.name)")
                try #require(heard == "<\(ann.name)> \(line)")
            }
            for member in [ann, bob, cat] { member.client.close() }
        }
    }

    @Test(arguments: Engine.allCases)
    func `the rooms of a loop that has ended are told as such, and left in peace`(engine: Engine) throws {
        try inThisProcess(engine) { house in
            let names = (0...).lazy.map { "hall\($0)" }
            let ending = try #require(names.first { house.doors.owner(of: $0) == 1 })
            let staying = try #require(names.first { house.doors.owner(of: $0) == 0 })
            let ann = try house.join(ending)
            let bob = try house.join(staying)
            house.members[1].execute { $0.stop() }
            _ = try bob.client.receiveUntilOver()
            try ann.client.ask("/who\n", "ERROR the room's loop has ended\n")
            try ann.client.ask("hello\n", "ERROR the room's loop has ended\n")
            try ann.client.ask("/leave\n", "* you left \(ending)\n")
            try ann.client.ask("/join \(ending)\n", "ERROR the room's loop has ended\n")
            try ann.client.ask("/join \(staying)\n", "* you joined \(staying)\n")
            // Bob has gone once the group has told of the end.
            var here = ""
            for _ in 0..<10_000 where here != "* here: \(ann.name)" {
                try ann.client.send("/who\n")
                here = try ann.client.receiveLine()
            }
            #expect(here == "* here: \(ann.name)")
            ann.client.close()
        }
    }

    private struct House: Sendable {
        let doors: Doors
        let members: [EventLoop.Group.Member]
        let port: UInt16

        func join(_ room: String) throws -> Somebody {
            let client = try PlainClient(port: port, timeLimit: Example.patience)
            return (client, try Rooms.enter(client, room))
        }
    }

    /// Two loops in this process, since a loop of a program cannot be made to hang. `body` runs on its own thread.
    private func inThisProcess(_ engine: Engine, _ body: @escaping @Sendable (House) throws -> Void) throws {
        let group = try EventLoop.Group(engine: engine, count: 2)
        let doors = Doors(count: 2)
        let listener = try doors.listen(on: .ipv4("127.0.0.1", port: 0), group)
        let house = House(
            doors: doors, members: group.members, port: UInt16(try #require(listener.localAddress.port)))
        let end = LoopBound(listener, on: group.loop)
        let visitors = onThread {
            defer { end.execute { $0.close() } }
            try body(house)
        }
        try group.run()
        try visitors.value(timeLimit: Example.patience)
    }

    typealias Somebody = (client: PlainClient, name: String)

    private func join(_ rooms: Example, _ room: String) throws -> Somebody {
        let client = try rooms.client()
        return (client, try Self.enter(client, room))
    }

    private static func enter(_ client: PlainClient, _ room: String) throws -> String {
        let greeting = try client.receiveLine()
        let name = try #require(greeting.firstMatch(of: /^\* you are (.+):/)?.output.1, "\(greeting)")
        try client.ask("/join \(room)\n", "* you joined \(room)\n")
        return String(name)
    }

    /// SIGTERM: all are told, and their connections end.
    private func stop(_ rooms: Example, _ members: [Somebody]) throws {
        rooms.child.signal(SIGTERM)
        for member in members {
            let rest = String(decoding: try member.client.receiveUntilEnd(), as: UTF8.self)
            #expect(rest.contains("* the rooms close\n"))
            member.client.close()
        }
        #expect(try rooms.child.waitForExit() == .exited(0))
        #expect(rooms.child.standardErrorText == "")
    }
}
