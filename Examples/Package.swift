// swift-tools-version: 6.2
import PackageDescription

/// The settings under which the documentation promises that a server compiles.
let strict: [SwiftSetting] = [.strictMemorySafety(), .treatAllWarnings(as: .error)]

/// One program: its own folder, the library as any user depends on it, and what the examples share.
func program(_ name: String) -> Target {
    .executableTarget(
        name: name,
        dependencies: [
            .product(name: "CallbackServer", package: "CallbackServer"),
            .product(name: "ArgumentParser", package: "swift-argument-parser"),
            "ExampleSupport",
        ] + (name.hasPrefix("async-") ? [.product(name: "CallbackAsync", package: "CallbackServer")] : []),
        swiftSettings: strict)
}

let programs = [
    "async-client", "broker", "chat", "http-hello", "keyvalue", "proxy", "rooms", "shards", "socks5", "time-signal",
    "unix-echo",
]

let package = Package(
    name: "Examples",
    dependencies: [
        .package(name: "CallbackServer", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: programs.map(program) + [
        .target(
            name: "ExampleSupport",
            dependencies: [
                .product(name: "CallbackServer", package: "CallbackServer"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        // A link to the library's own: blocking clients and child processes, with a time limit on everything.
        .target(name: "ExampleTestSupport", path: "Tests/TestSupport", swiftSettings: [.treatAllWarnings(as: .error)]),
        .testTarget(
            name: "ExampleTests",
            dependencies: programs.map { .byName(name: $0) } + [
                "ExampleTestSupport", .product(name: "CallbackServer", package: "CallbackServer"),
            ],
            swiftSettings: [.treatAllWarnings(as: .error)]),
    ]
)
