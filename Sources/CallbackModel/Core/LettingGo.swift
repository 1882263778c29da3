/// Runs `change`, which removes `old` from its place, and releases `old` only then. What a callback has captured may
/// look at that place in its `deinit`. During an assignment that would trap (SE-0176).
func letGo<Value>(of old: Value, after change: () -> Void) {
    change()
    withExtendedLifetime(old) {}
}
