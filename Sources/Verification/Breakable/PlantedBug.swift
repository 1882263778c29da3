/// A mistake that engines have been seen to make, planted into `BreakableLoop`, and the scenario that has to show it.
enum PlantedBug: String, CaseIterable, Sendable {
    // Reading
    case endIsDropped
    case endComesBeforeData
    case hangUpComesBeforeData
    case resetIsTakenForTheEnd
    case readErrorIsIgnored
    case pausedDataIsDropped
    case emptyReadIsDelivered
    case interruptedReadIsFatal
    case readsHaveNoLimit
    case urgentDataIsInline
    case readBufferIsCutShort
    // Writing
    case queuedWritesAreSwapped
    case shortWriteIsTakenAsWhole
    case shortWriteIsSentAgain
    case writeErrorIsIgnored
    case drainIsNeverTold
    case bytesGoToTheOtherConnection
    case finComesBeforeTheQueue
    case finIsNeverSent
    case endOfInputEndsOutput
    case interruptedWriteIsFatal
    // Closing
    case completionIsToldInsideTheWrite
    case descriptorIsLeaked
    case resetIsAPlainClose
    case staleEventIsDelivered
    // Accepting and connecting
    case everySecondClientIsLost
    case optionsAreNotApplied
    case resumedListenerSleeps
    case abortedClientEndsAccepting
    case refusedConnectionOpens
    // The loop
    case timersAreEarly
    case equalTimersAreReversed
    case restartedTimerKeepsItsFirstTime
    case timersDoNotKeepTheLoop
    case unreferencedTimersKeepTheLoop
    case stopIsIgnored
    case loopSpins
    case noWaitWaits
    case wakeIsLost

    /// The scenario that shows it; nothing where only injected faults do.
    var scenario: String? {
        switch self {
        case .interruptedWriteIsFatal, .abortedClientEndsAccepting: nil
        case .endIsDropped: "end_of_input_only"
        case .endComesBeforeData: "end_behind_unread_data"
        case .hangUpComesBeforeData: "paused_and_hung_up"
        case .resetIsTakenForTheEnd: "tcp_rst"
        case .readErrorIsIgnored: "tcp_rst"
        case .pausedDataIsDropped: "tcp_read_stop"
        case .emptyReadIsDelivered: "nested_nowhere"
        case .interruptedReadIsFatal: "echo_drip"
        case .readsHaveNoLimit: "flood_and_quiet"
        case .urgentDataIsInline: "tcp_oob"
        case .readBufferIsCutShort: "echo_large"
        case .queuedWritesAreSwapped: "tcp_write_in_a_row"
        case .shortWriteIsTakenAsWhole: "tcp_shutdown_after_write"
        case .shortWriteIsSentAgain: "tcp_shutdown_after_write"
        case .writeErrorIsIgnored: "peer_takes_nothing"
        case .drainIsNeverTold: "saturated_and_drained"
        case .bytesGoToTheOtherConnection: "two_in_turn"
        case .finComesBeforeTheQueue: "tcp_shutdown_after_write"
        case .finIsNeverSent: "shutdown_eof"
        case .endOfInputEndsOutput: "half_open"
        case .completionIsToldInsideTheWrite: "completion_comes_later"
        case .descriptorIsLeaked: "end_of_input_only"
        case .resetIsAPlainClose: "local_reset"
        case .staleEventIsDelivered: "stale_event_for_a_new_owner"
        case .everySecondClientIsLost: "accept_burst"
        case .optionsAreNotApplied: "tcp_flags"
        case .resumedListenerSleeps: "delayed_accept"
        case .refusedConnectionOpens: "connection_fail"
        case .timersAreEarly: "timer_early_check"
        case .equalTimersAreReversed: "timer_order"
        case .restartedTimerKeepsItsFirstTime: "timer_start_twice"
        case .timersDoNotKeepTheLoop: "timer"
        case .unreferencedTimersKeepTheLoop: "timer_unref"
        case .stopIsIgnored: "loop_stop"
        case .loopSpins: "half_closed_and_waiting"
        case .noWaitWaits: "run_nowait"
        case .wakeIsLost: "async"
        }
    }
}
