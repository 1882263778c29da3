import CLinux
import Foundation
import Glibc
import TestSupport
import Testing

/// Vendor-notes/linux-readiness.md says what the kernel reports, and this asks the kernel.
@Suite(.timeLimit(.minutes(20)), .onOwnThread)
struct `What epoll, poll and select report` {
    @Test func `every cell of the table is true of this kernel`() throws {
        let written = try table()
        #expect(written.count == SocketState.all.count, "a row is missing, or has no state that shows it")
        for state in SocketState.all {
            let row = try #require(written[state.name], "the table has no row for \"\(state.name)\"")
            let socket = try state.make()
            defer { withExtendedLifetime(socket) {} }
            // What was sent over loopback is nearly always there at once; if not, it is in a moment.
            let end = ContinuousClock.now + .seconds(5)
            var seen = report(socket.descriptor)
            while seen != row, ContinuousClock.now < end { seen = report(socket.descriptor) }
            #expect(seen == row, "\(state.name)")
        }
    }

    @Test func `a duplicate keeps a closed descriptor's registration alive in epoll`() throws {
        let listener = try PlainListener()
        let peer = try PlainClient(port: listener.port)
        let own = try listener.accept()
        let set = epoll_create1(0)
        defer { close(set) }
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t())
        #expect(epoll_ctl(set, EPOLL_CTL_ADD, own.descriptor, &event) == 0)
        let number = own.descriptor
        let duplicate = TestSupport.duplicate(number)
        defer { close(duplicate) }
        own.close()
        try peer.send("x")
        // Still reported, though the number that was registered is closed and can no longer be removed.
        #expect(KernelReport.reported(in: set) == "IN")
        #expect(epoll_ctl(set, EPOLL_CTL_DEL, number, &event) != 0)
    }

    @Test func `a descriptor that is removed before it closes is not reported, duplicate or not`() throws {
        let listener = try PlainListener()
        let peer = try PlainClient(port: listener.port)
        let own = try listener.accept()
        let set = epoll_create1(0)
        defer { close(set) }
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t())
        #expect(epoll_ctl(set, EPOLL_CTL_ADD, own.descriptor, &event) == 0)
        let duplicate = TestSupport.duplicate(own.descriptor)
        defer { close(duplicate) }
        #expect(epoll_ctl(set, EPOLL_CTL_DEL, own.descriptor, &event) == 0)
        own.close()
        try peer.send("x")
        #expect(KernelReport.reported(in: set) == "nothing")
    }

    private func report(_ descriptor: Int32) -> [String] {
        [
            KernelReport.epoll(descriptor), KernelReport.epollUnasked(descriptor), KernelReport.poll(descriptor),
            KernelReport.pollUnasked(descriptor), KernelReport.select(descriptor),
        ]
    }

    /// The cells of the page's first table, by the first of each row.
    private func table() throws -> [String: [String]] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "Vendor-notes/linux-readiness.md"), encoding: .utf8)
        var rows: [String: [String]] = [:]
        for line in page.split(separator: "\n") where line.hasPrefix("| ") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 6, cells[0] != "state of the socket", !cells[0].hasPrefix("---") else { continue }
            rows[cells[0]] = Array(cells.dropFirst())
        }
        return rows
    }
}
