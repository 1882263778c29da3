// swift-tools-version: 6.2
import PackageDescription

/// The C programs are yardsticks: what the compiler doubts in them, every ratio would inherit.
let strictC: [CSetting] = [
    .enableWarning("all"),
    .enableWarning("extra"),
    .treatAllWarnings(as: .error),
]

let strictSwift: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

/// A package of its own, so that what only measuring needs reaches no user of the library.
let package = Package(
    name: "Benchmarks",
    dependencies: [
        .package(name: "CallbackServer", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        // A peer to compare with.
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    ],
    targets: [
        .executableTarget(
            name: "echo-libuv-c", cSettings: strictC, linkerSettings: [.linkedLibrary("uv")]),
        .executableTarget(
            name: "echo-libuv-loops-c", cSettings: strictC, linkerSettings: [.linkedLibrary("uv")]),
        .executableTarget(name: "echo-epoll-c", cSettings: strictC),
        .executableTarget(
            name: "echo-libuv-tls-c", cSettings: strictC,
            linkerSettings: [.linkedLibrary("uv"), .linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .executableTarget(name: "round-trips", dependencies: ["CTLSClient"], cSettings: strictC),
        .executableTarget(
            name: "echo-callbackserver",
            dependencies: [.product(name: "CallbackServer", package: "CallbackServer")],
            // The settings under which the documentation promises that a server compiles.
            swiftSettings: [.strictMemorySafety(), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "echo-async",
            dependencies: [
                .product(name: "CallbackServer", package: "CallbackServer"),
                .product(name: "CallbackAsync", package: "CallbackServer"),
            ],
            swiftSettings: [.strictMemorySafety(), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "echo-tls",
            dependencies: [
                .product(name: "CallbackServer", package: "CallbackServer"),
                .product(name: "CallbackTLS", package: "CallbackServer"),
            ],
            swiftSettings: [.strictMemorySafety(), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "framing", dependencies: [.product(name: "CallbackServer", package: "CallbackServer")],
            swiftSettings: [.strictMemorySafety(), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "crossing", dependencies: [.product(name: "CallbackServer", package: "CallbackServer")],
            swiftSettings: [.strictMemorySafety(), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "crossing-libuv-c", cSettings: strictC, linkerSettings: [.linkedLibrary("uv")]),
        .executableTarget(
            name: "endurance",
            dependencies: [
                .product(name: "CallbackServer", package: "CallbackServer"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: [.treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "fan-out-libuv-c", cSettings: strictC, linkerSettings: [.linkedLibrary("uv")]),
        .executableTarget(
            name: "echo-nio",
            dependencies: [
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: [.treatAllWarnings(as: .error)]),
        .target(
            name: "CTLSClient", cSettings: strictC,
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .target(name: "CLoad", dependencies: ["CTLSClient"], cSettings: strictC),
        .target(
            name: "BenchmarkKit",
            dependencies: ["CLoad", .product(name: "Histogram", package: "hdrhistogram-swift")],
            swiftSettings: strictSwift),
        .executableTarget(
            name: "bench",
            dependencies: ["BenchmarkKit", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: strictSwift),
        .testTarget(
            name: "BenchmarkTests", dependencies: ["BenchmarkKit"], exclude: ["broken-tls.py"],
            swiftSettings: [.treatAllWarnings(as: .error)]),
    ]
)
