import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5)), .onOwnThread) struct `A program that does not import CallbackTLS` {
    /// The shared libraries of a program, and theirs (ldd(1)).
    private func libraries(of program: String) throws -> String {
        let child = try ChildProcess("/usr/bin/ldd", [program])
        #expect(try child.waitForExit() == .exited(0))
        return child.standardOutputText
    }

    @Test func `is not linked with OpenSSL`() throws {
        let echo = try libraries(of: ChildProcess.pathOfBuiltProduct("echo"))
        #expect(echo.contains("libuv.so"), "\(echo)")
        #expect(!echo.contains("libssl.so") && !echo.contains("libcrypto.so"), "\(echo)")
        // The tests themselves are one program, and import it.
        let tests = try libraries(of: "/proc/\(getpid())/exe")
        #expect(tests.contains("libssl.so") && tests.contains("libcrypto.so"), "\(tests)")
    }
}
