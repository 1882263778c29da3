// swift-tools-version: 6.2
import PackageDescription

/// The settings under which the documentation promises that a server compiles.
let strict: [SwiftSetting] = [.strictMemorySafety(), .treatAllWarnings(as: .error)]

/// The library as any user depends on it, and what reads command lines.
let server: [Target.Dependency] = [
    .product(name: "CallbackServer", package: "CallbackServer"),
    .product(name: "ArgumentParser", package: "swift-argument-parser"),
]

/// The programs, and what they use beside the library and what all share. Only those with `ExampleTLS` link OpenSSL.
let programs: KeyValuePairs<String, [Target.Dependency]> = [
    "async-client": [.product(name: "CallbackAsync", package: "CallbackServer")],
    "broker": [],
    "chat": [],
    "http-hello": ["HelloHTTP"],
    "https-hello": ["HelloHTTP", "ExampleTLS", .product(name: "CallbackTLS", package: "CallbackServer")],
    "keyvalue": [],
    "proxy": [],
    "rooms": [],
    "shards": [],
    "smtp-sink": ["ExampleTLS", .product(name: "CallbackTLS", package: "CallbackServer")],
    "socks5": [],
    "time-signal": [],
    "tls-proxy": ["ExampleTLS", .product(name: "CallbackTLS", package: "CallbackServer")],
    "unix-echo": [],
]

let package = Package(
    name: "Examples",
    dependencies: [
        .package(name: "CallbackServer", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: programs.map { name, others in
        .executableTarget(
            name: name, dependencies: server + ["ExampleSupport"] + others, swiftSettings: strict)
    } + [
        .target(name: "ExampleSupport", dependencies: server, swiftSettings: strict),
        .target(
            name: "ExampleTLS",
            dependencies: server + ["ExampleSupport", .product(name: "CallbackTLS", package: "CallbackServer")],
            swiftSettings: strict),
        .target(name: "HelloHTTP", dependencies: server + ["ExampleSupport"], swiftSettings: strict),
        // A link to the library's own: blocking clients and child processes, with a time limit on everything.
        .target(name: "ExampleTestSupport", path: "Tests/TestSupport", swiftSettings: [.treatAllWarnings(as: .error)]),
        .testTarget(
            name: "ExampleTests",
            dependencies: programs.map { .byName(name: $0.key) } + [
                "ExampleTestSupport", .product(name: "CallbackServer", package: "CallbackServer"),
            ],
            swiftSettings: [.treatAllWarnings(as: .error)]),
    ]
)
