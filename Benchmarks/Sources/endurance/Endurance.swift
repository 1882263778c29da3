import ArgumentParser

/// Puts the library to long and heavy use, as its documentation says what it bears.
///
/// The server is a child process that uses the public API alone (`Serve`); the clients are plain sockets that share
/// no code with the engines.
@main
struct Endurance: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "endurance",
        abstract: "Loads an echo server for long, on every engine, and tells what was lost, leaked or slow.",
        subcommands: [RunCommand.self, Serve.self],
        defaultSubcommand: RunCommand.self)
}
