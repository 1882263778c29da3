import CallbackServer
import ExampleTestSupport
import Foundation
import Glibc
import Testing

@Suite(.timeLimit(.minutes(20)))
struct `TLS proxy` {
    // MARK: Real backends

    @Test(.needs("nginx", from: "nginx"), arguments: Engine.allCases, TLSVersion.allCases)
    func `curl and wrk get through it to nginx`(engine: Engine, version: TLSVersion) throws {
        let directory = try TemporaryDirectory()
        let bytes = pseudoRandomBytes(count: 5_000_001)
        try Data(bytes).write(to: URL(filePath: directory.path(of: "file")))
        let port = try unusedPort()
        let nginx = try startNginx(in: directory, port: port)
        let proxy = try start(engine, to: port)
        let options = try ["-sS", "--cacert", Certificates.roots(), "--tls-max", version.rawValue]
        let url = "https://localhost:\(proxy.port)/file"
        let log = options + ["-w", "%{http_code} %{num_connects}\n", "-o", directory.path(of: "one")]
        #expect(
            try run("curl", log + [url, "-o", directory.path(of: "two"), url]) == "200 1\n200 0\n")
        for name in ["one", "two"] {
            #expect(try Data(contentsOf: URL(filePath: directory.path(of: name))) == Data(bytes))
        }
        let upload = ["-T", directory.path(of: "file"), "-w", "%{http_code}", "\(url).up"]
        #expect(try run("curl", options + upload) == "201")
        #expect(try Data(contentsOf: URL(filePath: directory.path(of: "file.up"))) == Data(bytes))
        let output = try run("wrk", ["-t", "1", "-c", "20", "-d", "1", "https://127.0.0.1:\(proxy.port)/small"])
        #expect(output.contains("Requests/sec"), "\(output)")
        #expect(!output.contains("Non-2xx") && !output.contains("Socket errors"), "\(output)")
        try proxy.stop()
        nginx.signal(SIGTERM)
        #expect(try nginx.waitForExit() == .exited(0), "\(nginx.standardErrorText)")
    }

    @Test(arguments: Engine.allCases)
    func `curl gets through it to Python's http server`(engine: Engine) throws {
        let directory = try TemporaryDirectory()
        try Data("Hello, world!\n".utf8).write(to: URL(filePath: directory.path(of: "file")))
        let server = try ChildProcess(
            try tool("python3"),
            ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", directory.path])
        let greeting = try server.readLine(timeLimit: Example.patience)
        let port = try #require(greeting.firstMatch(of: /port (\d+)/)?.output.1)
        let proxy = try start(engine, to: try #require(UInt16(port)))
        let url = "https://localhost:\(proxy.port)/file"
        #expect(try run("curl", ["-sS", "--cacert", Certificates.roots(), url]) == "Hello, world!\n")
        try proxy.stop()
    }

    /// In the foreground, with no file outside of `directory`.
    private func startNginx(in directory: TemporaryDirectory, port: UInt16) throws -> ChildProcess {
        let configuration = """
            daemon off;
            master_process off;
            pid pid;
            error_log stderr;
            events {}
            http {
                access_log off;
                client_body_temp_path body;
                proxy_temp_path proxy;
                fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi;
                scgi_temp_path scgi;
                client_max_body_size 100m;
                server {
                    listen 127.0.0.1:\(port);
                    root \(directory.path);
                    dav_methods PUT;
                    location = /small { return 200 "small"; }
                }
            }
            """
        let file = directory.path(of: "configuration")
        try Data(configuration.utf8).write(to: URL(filePath: file))
        let nginx = try ChildProcess(try tool("nginx"), ["-p", directory.path, "-e", "stderr", "-c", file])
        while nginx.isRunning {
            if let client = try? PlainClient(port: port) {
                client.close()
                break
            }
            _ = poll(nil, 0, 1)
        }
        try #require(nginx.isRunning, "\(nginx.standardErrorText)")
        return nginx
    }

    // MARK: Ends

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `bytes go both ways whole, and each end on its own`(engine: Engine, version: TLSVersion) throws {
        let (listener, proxy) = try startWithListener(engine)
        let client = try startClient(proxy, version, "half", 3_000_001)
        let server = try listener.accept()
        let digest = try client.readLine(timeLimit: Example.patience)
        // close_notify has become FIN.
        #expect(try receiveDigest(server) == digest)
        // And the client still hears.
        let answer = pseudoRandomBytes(count: 3_000_001)
        try server.send(answer)
        try server.halfClose()
        #expect(try client.readLine(timeLimit: Example.patience) == "3000001 \(try digestOf(answer)) end")
        #expect(try client.waitForExit() == .exited(0), "\(client.standardErrorText)")
        try server.expectEnd()
        server.close()
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases, TLSVersion.allCases)
    func `the backend's end is told, and so is its reset`(engine: Engine, version: TLSVersion) throws {
        let (listener, proxy) = try startWithListener(engine)
        for isReset in [false, true] {
            let client = try startClient(proxy, version, "read")
            #expect(try client.readLine(timeLimit: Example.patience) == "open")
            let server = try listener.accept()
            try server.send("answer")
            // The reset may overtake the answer.
            if isReset { try server.reset() } else { try server.halfClose() }
            let line = try client.readLine(timeLimit: Example.patience)
            if isReset {
                #expect(line.hasSuffix(" reset"), "\(line)")
            } else {
                #expect(line == "6 \(try digestOf(Array("answer".utf8))) end")
                try server.expectEnd()
            }
            #expect(try client.waitForExit() == .exited(0), "\(client.standardErrorText)")
        }
        try proxy.stop()
    }

    /// FIN without close_notify may be anybody's: the backend must not take it for an end.
    @Test(arguments: Engine.allCases, ["cut", "reset"])
    func `a client that breaks is told with a reset`(engine: Engine, way: String) throws {
        let (listener, proxy) = try startWithListener(engine)
        for version in TLSVersion.allCases {
            let client = try startClient(proxy, version, way, 10)
            let server = try listener.accept()
            #expect(try server.receiveUntilOver().ending == .reset)
            #expect(try client.waitForExit(timeLimit: Example.patience) == .exited(0), "\(client.standardErrorText)")
        }
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a backend that is not there is told, and the client's connection reset`(engine: Engine) throws {
        let port = try unusedPort()
        let proxy = try start(engine, to: port)
        let client = try startClient(proxy, .tls13, "read")
        #expect(try client.readLine(timeLimit: Example.patience) == "open")
        #expect(try client.readLine(timeLimit: Example.patience).hasSuffix(" reset"))
        try proxy.child.waitForLine(containing: "connect 127.0.0.1:\(port): ECONNREFUSED")
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases)
    func `who has not shaken hands costs the backend nothing`(engine: Engine) throws {
        let (listener, proxy) = try startWithListener(engine)
        let silent = try proxy.client()
        let plain = try proxy.client()
        try plain.send("GET / HTTP/1.1\r\n\r\n")
        _ = try plain.receiveUntilOver()
        plain.close()
        try proxy.child.waitForLine(containing: "protocolError: http request")
        let client = try startClient(proxy, .tls13, "half", 5)
        let server = try listener.accept()
        #expect(try receiveDigest(server) == client.readLine(timeLimit: Example.patience))
        var entry = pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&entry, 1, 0) == 0, "another connection")
        server.close()
        try client.waitForExit(timeLimit: Example.patience)
        silent.close()
        try proxy.stop()
    }

    // MARK: Back-pressure

    @Test(arguments: Engine.allCases)
    func `a backend that does not read is not written to, and costs no memory`(engine: Engine) throws {
        let (listener, proxy) = try startWithListener(engine)
        // One that is done: the loop has its buffers.
        let first = try startClient(proxy, .tls13, "reset", 1 << 20)
        _ = try listener.accept().receiveUntilOver()
        try first.waitForExit(timeLimit: Example.patience)
        let memory = try peakResidentBytes(of: proxy.child)
        let most = 256 << 20
        let client = try startClient(proxy, .tls13, "fill", most)
        let server = try listener.accept()
        let sent = try #require(Int(try client.readLine(timeLimit: Example.patience)))
        #expect(sent < most, "the proxy takes whatever comes")
        #expect(try peakResidentBytes(of: proxy.child) - memory < 16 << 20)
        try client.standardInput.halfClose()
        #expect(try server.receiveUntilOver().ending == .reset)
        try client.waitForExit(timeLimit: Example.patience)
        try proxy.stop()
    }

    @Test(arguments: Engine.allCases)
    func `a client that does not read is not written to, and costs no memory`(engine: Engine) throws {
        let (listener, proxy) = try startWithListener(engine)
        let client = try startClient(proxy, .tls13, "idle")
        #expect(try client.readLine(timeLimit: Example.patience) == "open")
        let server = try listener.accept()
        let memory = try peakResidentBytes(of: proxy.child)
        _ = try server.sendUntilFull(pseudoRandomBytes(count: 1 << 20), most: 256 << 20)
        #expect(try peakResidentBytes(of: proxy.child) - memory < 16 << 20)
        try client.standardInput.halfClose()
        #expect(try server.receiveUntilOver().ending == .reset)
        try client.waitForExit(timeLimit: Example.patience)
        try proxy.stop()
    }

    @Test func `a key that does not fit is told in one line`() throws {
        let files = try Certificates.server("chain.pem", "other.key")
        let child = try Example.start("tls-proxy", ["--port", "0", "--backend", "localhost:1"] + files)
        #expect(try child.waitForExit() == .exited(1))
        #expect(child.standardErrorText.hasSuffix("/other.key: the private key does not belong to the certificate\n"))
    }

    // MARK: Helpers

    private func start(_ engine: Engine, to port: UInt16) throws -> Example {
        try Example("tls-proxy", engine, ["--backend", "127.0.0.1:\(port)"] + Certificates.server())
    }

    private func startWithListener(_ engine: Engine) throws -> (PlainListener, Example) {
        let listener = try PlainListener(receiveBuffer: 65_536, timeLimit: Example.patience)
        return (listener, try start(engine, to: listener.port))
    }

    /// `Examples/Tests/Peers/tls-client.py` says what it does.
    private func startClient(
        _ proxy: Example, _ version: TLSVersion, _ way: String, _ count: Int = 0
    ) throws -> ChildProcess {
        try ChildProcess(
            try tool("python3"),
            [peer("tls-client.py"), Certificates.roots(), "\(proxy.port)", version.rawValue, way, "\(count)"])
    }

    /// What the client tells of what it has sent.
    private func receiveDigest(_ server: PlainClient) throws -> String {
        let bytes = try server.receiveUntilEnd()
        return "\(bytes.count) \(try digestOf(bytes))"
    }

    private func digestOf(_ bytes: [UInt8]) throws -> String {
        let directory = try TemporaryDirectory()
        let path = directory.path(of: "bytes")
        try Data(bytes).write(to: URL(filePath: path))
        return String(try run("sha256sum", [path]).prefix(64))
    }
}
