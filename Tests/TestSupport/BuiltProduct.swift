import Glibc

extension ChildProcess {
    /// The path of an executable of this package, built beside the tests that run now.
    ///
    /// The runner is the test bundle itself or a helper of the toolchain that loads the bundle, and the build
    /// folder may be anywhere (`--scratch-path`), so the bundle is looked for among what this process is,
    /// was told, and has loaded.
    public static func pathOfBuiltProduct(_ name: String) throws -> String {
        try pathInBuildFolder(name, "the executable \(name)", isExecutableFile)
    }

    /// The folder with the compiled modules of this package, built with the tests that run now.
    public static func pathOfBuiltModules() throws -> String {
        try pathInBuildFolder("Modules", "the modules") { access("\($0)/CallbackServer.swiftmodule", F_OK) == 0 }
    }

    /// The folder with what the compiler keeps of C modules.
    public static func pathOfModuleCache() throws -> String {
        try pathInBuildFolder("ModuleCache", "the module cache") { access($0, W_OK) == 0 }
    }

    /// The path of `name` in the folder that the tests were built in, if `isIt` says that it is what is meant.
    public static func pathInBuildFolder(
        _ name: String, _ waitedFor: String, _ isIt: (String) -> Bool
    ) throws -> String {
        var tried: [String] = []
        for bundle in placesOfTheTestBundle() {
            // The bundle is a file beside the products, or lies in a folder that is.
            for folder in foldersAbove(bundle).prefix(2) {
                let path = "\(folder)/\(name)"
                if isIt(path) { return path }
                tried.append(path)
            }
        }
        throw PeerError(
            call: "pathInBuildFolder", cause: .unexpected("not at \(tried)"), waitedFor: waitedFor)
    }

    /// A program of the toolchain that the running tests are linked with, or else of PATH.
    public static func pathOfTool(_ name: String) throws -> String {
        // The standard library is in usr/lib/swift/linux, the programs are in usr/bin.
        let libraries = mappedFiles { $0.contains("/libswiftCore.so") }
        let places = libraries.compactMap { foldersAbove($0).dropFirst(3).first.map { "\($0)/bin" } }
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        let folders = places + path.split(separator: ":").map(String.init)
        guard let folder = folders.first(where: { isExecutableFile("\($0)/\(name)") }) else {
            throw PeerError(call: "pathOfTool", cause: .unexpected("not in \(folders)"), waitedFor: name)
        }
        return "\(folder)/\(name)"
    }

    /// Paths that may be the bundle, the surest first.
    private static func placesOfTheTestBundle() -> [String] {
        var places: [String] = []
        let arguments = CommandLine.arguments
        if let option = arguments.firstIndex(of: "--test-bundle-path"), option + 1 < arguments.count {
            places.append(arguments[option + 1])
        }
        places += arguments.filter { $0.contains(".xctest") }
        // A helper of the toolchain is passed over: beside it, in /usr/bin, stands another `echo`.
        if let own = target(ofLink: "/proc/self/exe"), own.contains("PackageTests") { places.append(own) }
        places += mappedFiles { $0.contains(".xctest") }
        var seen: Set<String> = []
        return places.compactMap(absolute).filter { seen.insert($0).inserted }
    }

    /// The files that this process has loaded, and whose path is as asked for.
    private static func mappedFiles(where isWanted: (Substring) -> Bool) -> [String] {
        let maps = (try? contents(ofFile: "/proc/self/maps")) ?? ""
        // The sixth field, and all behind it: a path may hold spaces (proc(5)).
        return maps.split(separator: "\n").compactMap { line in
            guard isWanted(line), let slash = line.firstIndex(of: "/") else { return nil }
            return String(line[slash...])
        }
    }

    private static func absolute(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The folder that holds `path`, the one that holds that, and so on.
    static func foldersAbove(_ path: String) -> [String] {
        var folders: [String] = []
        var rest = path[...]
        while let slash = rest.lastIndex(of: "/"), slash > rest.startIndex {
            rest = rest[..<slash]
            folders.append(String(rest))
        }
        return folders
    }

    private static func isExecutableFile(_ path: String) -> Bool {
        var information = stat()
        // A folder has the executable bits as well.
        guard stat(path, &information) == 0, information.st_mode & S_IFMT == S_IFREG else { return false }
        return access(path, X_OK) == 0
    }
}
