# shellcheck shell=bash
# What measure.sh and measure-broker.sh have in common: both read it at their start.

scratch=$(mktemp -d)
servers=()
clean_up() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap clean_up EXIT

# The processor time of process $1 so far, in clock ticks (proc(5)).
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
