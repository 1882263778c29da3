/// Runs `change`, which takes `old` out of its place, and lets go of `old` only then.
///
/// What a callback has captured may come back as it goes, and look at the very place it was in. Let go of by the
/// assignment itself, it would find that place being written, which traps (SE-0176).
func letGo<Value>(of old: Value, after change: () -> Void) {
    change()
    withExtendedLifetime(old) {}
}
