// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is held to the same rules; see CONTRIBUTING.md.
let strict: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Tests call the kernel and child processes directly, so they are not asked to mark each such call `unsafe`.
let testing: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
    name: "CallbackServer",
    products: [
        .library(name: "CallbackServer", targets: ["CallbackServer"]),
        .library(name: "CallbackAsync", targets: ["CallbackAsync"]),
        .library(name: "CallbackTLS", targets: ["CallbackTLS"]),
        .library(name: "ParityKit", targets: ["ParityKit"]),
        .executable(name: "echo", targets: ["echo"]),
        .executable(name: "parity", targets: ["parity"]),
        // To be loaded before libc (LD_PRELOAD); nothing links it.
        .library(name: "CFaults", type: .dynamic, targets: ["CFaults"]),
    ],
    dependencies: [
        // For the executables only; the library depends on libuv and the toolchain alone.
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
    ],
    targets: [
        .systemLibrary(name: "CLibuv", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
        .target(name: "CLinux"),
        // `ByteReader` may not outlive what it reads: to say so is still an experimental feature (vendor notes,
        // swift.md).
        .target(
            name: "CallbackModel", dependencies: ["CLinux"],
            swiftSettings: strict + [.enableExperimentalFeature("Lifetimes")]),
        .target(name: "LinuxSockets", dependencies: ["CallbackModel", "CLinux"], swiftSettings: strict),
        .target(
            name: "LibuvEngine", dependencies: ["CallbackModel", "CLibuv", "CLinux", "LinuxSockets"],
            swiftSettings: strict),
        .target(
            name: "ReadinessEngine", dependencies: ["CallbackModel", "CLinux", "LinuxSockets"], swiftSettings: strict),
        .target(
            name: "CallbackServer", dependencies: ["CallbackModel", "LibuvEngine", "ReadinessEngine"],
            swiftSettings: strict),
        .target(name: "CallbackAsync", dependencies: ["CallbackModel"], swiftSettings: strict),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .target(name: "CallbackTLS", dependencies: ["CallbackModel", "COpenSSL"], swiftSettings: strict),
        .executableTarget(
            name: "echo",
            dependencies: [
                "CallbackServer", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .target(
            name: "ParityKit", dependencies: ["CallbackModel", "CLinux"], path: "Sources/Verification/ParityKit",
            swiftSettings: strict),
        // Not of the kit itself, whose users need no CallbackAsync.
        .target(
            name: "AsyncParity", dependencies: ["ParityKit", "CallbackAsync", "CallbackModel"],
            path: "Sources/Verification/AsyncParity", swiftSettings: strict),
        // Nor OpenSSL.
        .target(
            name: "TLSParity", dependencies: ["ParityKit", "CallbackTLS", "CallbackModel", "COpenSSL"],
            path: "Sources/Verification/TLSParity", swiftSettings: strict),
        .target(name: "CFaults", path: "Sources/Verification/CFaults"),
        .target(
            name: "FaultKit", dependencies: ["ParityKit", "CallbackModel"], path: "Sources/Verification/FaultKit",
            swiftSettings: strict),
        .target(
            name: "RandomCalls", dependencies: ["ParityKit", "CallbackModel"], path: "Sources/Verification/RandomCalls",
            swiftSettings: strict),
        // An engine to be broken, and a program that runs it under faults.
        .executableTarget(
            name: "Breakable", dependencies: ["CallbackModel", "CLinux", "FaultKit", "ParityKit"],
            path: "Sources/Verification/Breakable", swiftSettings: testing),
        .executableTarget(
            name: "parity",
            dependencies: [
                "CallbackServer", "ParityKit", "AsyncParity", "FaultKit", "RandomCalls", "TLSParity", "CallbackTLS",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Sources/Verification/parity", swiftSettings: strict),

        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: testing),
        .testTarget(name: "TestSupportTests", dependencies: ["TestSupport"], swiftSettings: testing),
        .testTarget(
            name: "CallbackModelTests", dependencies: ["CallbackModel", "TestSupport"], swiftSettings: testing),
        .testTarget(
            name: "LinuxSocketsTests", dependencies: ["LinuxSockets", "CallbackModel", "TestSupport"],
            swiftSettings: testing),
        .testTarget(
            name: "ReadinessEngineTests", dependencies: ["ReadinessEngine", "CallbackModel", "CLinux", "TestSupport"],
            swiftSettings: testing),
        // What tests of several modules share and that knows the library.
        .target(
            name: "ServerTestSupport", dependencies: ["CallbackServer"], path: "Tests/ServerTestSupport",
            swiftSettings: testing),
        // A resolver that the tests control.
        .target(name: "CNames", path: "Tests/CNames"),
        // Programs, since only a program has a main actor: the thread of a test is never the first one.
        .executableTarget(
            name: "TopLevelTasks", dependencies: ["CallbackServer"], path: "Tests/Programs/TopLevelTasks",
            swiftSettings: testing),
        .executableTarget(
            name: "AsyncMainTasks", dependencies: ["CallbackServer"], path: "Tests/Programs/AsyncMainTasks",
            swiftSettings: testing),
        .executableTarget(
            name: "DefaultIsolationTasks", dependencies: ["CallbackServer"],
            path: "Tests/Programs/DefaultIsolationTasks",
            swiftSettings: testing + [.defaultIsolation(MainActor.self)]),
        .executableTarget(
            name: "MainQueue", dependencies: ["CallbackServer", "CNames"], path: "Tests/Programs/MainQueue",
            swiftSettings: testing + [.defaultIsolation(MainActor.self)]),
        .testTarget(
            name: "ContractTests",
            dependencies: [
                "CallbackServer", "CNames", "ServerTestSupport", "TestSupport", "TopLevelTasks", "AsyncMainTasks",
                "DefaultIsolationTasks", "MainQueue",
            ],
            swiftSettings: testing),
        .testTarget(
            name: "CallbackAsyncTests",
            dependencies: [
                "CallbackAsync", "CallbackModel", "CallbackServer", "CNames", "ServerTestSupport", "TestSupport",
            ],
            swiftSettings: testing),
        .testTarget(
            name: "CallbackTLSTests",
            dependencies: ["COpenSSL", "CallbackServer", "CallbackTLS", "ServerTestSupport", "TestSupport"],
            exclude: ["make-certificates.sh"], swiftSettings: testing),
        .testTarget(
            name: "EchoTests", dependencies: ["echo", "CallbackServer", "TestSupport"], swiftSettings: testing),
        .testTarget(
            name: "ParityKitTests",
            dependencies: [
                "ParityKit", "AsyncParity", "FaultKit", "RandomCalls", "TLSParity", "CallbackServer", "CallbackModel",
                "CallbackTLS", "parity", "Breakable", "TestSupport",
            ],
            swiftSettings: testing),
        .testTarget(name: "MisuseTests", dependencies: ["CallbackServer", "TestSupport"], swiftSettings: testing),
        .testTarget(
            name: "DocumentationTests",
            dependencies: ["CallbackAsync", "CallbackServer", "CallbackTLS", "ParityKit", "TestSupport"],
            swiftSettings: testing),
        .testTarget(name: "TidyTests", dependencies: ["TestSupport"], swiftSettings: testing),
    ]
)
