internal import CallbackAsync
internal import CallbackModel
public import ParityKit

extension Form {
    /// One loop, and a task for each connection: `for try await` over its bytes, and `send`.
    public static let async = Form("async", obstacle: AsyncObstacle.of) { stage throws(IOError) in
        switch stage.scenario.handler {
        case .script, .scripts: try serve(stage)
        case .clients(let scripts):
            for (number, script) in scripts.enumerated() { try connect(stage, to: number, script) }
        case .closure, .program: break
        }
    }

    private static func serve(_ stage: Stage) throws(IOError) {
        let scripts = stage.scenario.scripts ?? []
        let listener = try stage.loop.listen(
            on: try stage.scenario.endpoint.freshAddress(), options: stage.scenario.options)
        stage.watch(listener.listener)
        stage.loop.task {
            do {
                for try await connection in listener.connections {
                    guard let observer = stage.meet(connection) else { continue }
                    stage.follow(connection)
                    let player = AsyncPlayer(scripts[observer.number], connection, observer, stage)
                    connection.task { await player.play(first: .start) }
                }
            } catch {
                stage.note("listener.connections threw \(error)")
            }
        }
    }

    private static func connect(_ stage: Stage, to number: Int, _ script: Script) throws(IOError) {
        let address = try stage.peerAddress(number)
        let observer = stage.makeObserver(number)
        var options = EventLoop.ConnectOptions()
        options.connection = stage.scenario.options.connection
        stage.loop.task { [options] in
            do {
                let connection = try await stage.loop.connect(to: address, options: options)
                observer.opened(connection)
                await AsyncPlayer(script, connection, observer, stage).play(first: .open)
            } catch let error as IOError {
                observer.callback("a task whose connect has thrown") { observer.failed(error) }
            } catch {
                observer.report("connect threw \(error)")
            }
        }
    }
}
