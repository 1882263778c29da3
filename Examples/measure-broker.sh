#!/usr/bin/env bash
# The broker beside a real mosquitto broker, in turns: processor time, and whether each subscriber got every message,
# whole and in order.
#
#   apt-get install mosquitto mosquitto-clients         # once
#   swift build -c release --package-path Examples && Examples/measure-broker.sh [ROUNDS] [SUBSCRIBERS] [MESSAGES] [QOS]
set -euo pipefail
cd "$(dirname "$0")"

rounds=${1:-3}
subscribers=${2:-50}
messages=${3:-10000}
qos=${4:-0}
# For the mosquitto broker, which does not say which free one it took.
mosquitto_port=${MOSQUITTO_PORT:-7883}

for tool in mosquitto mosquitto_pub mosquitto_sub; do
    command -v "$tool" >/dev/null || { echo "measure: $tool is not installed (see the head of this file)" >&2; exit 1; }
done
[ -x .build/release/broker ] || { echo "measure: build first: swift build -c release --package-path Examples" >&2; exit 1; }

# shellcheck source=Examples/measuring.sh
. ./measuring.sh

# Waits until the file $1 has a line that matches $2, while process $3 runs.
wait_for() {
    until grep -q "$2" "$1" 2>/dev/null; do
        kill -0 "$3" || { cat "$1" >&2; exit 1; }
        sleep 0.05
    done
}

# One run against the broker $1, process $2 on port $3: a line in the results.
run() {
    local before clients=() number started
    for number in $(seq "$subscribers"); do
        stdbuf -oL mosquitto_sub -p "$3" -t 'measured/+' -q "$qos" -C "$messages" -F '%p' -d \
            >"$scratch/heard.$number" 2>&1 &
        clients+=("$!")
    done
    for number in $(seq "$subscribers"); do
        wait_for "$scratch/heard.$number" '^Subscribed' "${clients[$((number - 1))]}"
    done
    before=$(ticks "$2")
    started=$(date +%s%N)
    mosquitto_pub -p "$3" -t measured/line -q "$qos" -l <"$scratch/lines"
    for number in $(seq "$subscribers"); do wait "${clients[$((number - 1))]}"; done
    local missed=0
    for number in $(seq "$subscribers"); do
        grep -v '^Client\|^Subscribed' "$scratch/heard.$number" | cmp -s - "$scratch/lines" || missed=$((missed + 1))
    done
    awk -v name="$1" -v ticks="$(($(ticks "$2") - before))" -v hz="$(getconf CLK_TCK)" -v missed="$missed" \
        -v count="$((subscribers * messages))" -v nanoseconds="$(($(date +%s%N) - started))" \
        'BEGIN { printf "%-10s %10.3f %14.2f %10.2f %12d\n", name, ticks / hz, ticks / hz / count * 1e6,
                 nanoseconds / 1e9, missed }'
}

# Lines of 20 to 119 bytes, each with its number.
awk -v count="$messages" 'BEGIN {
    pad = sprintf("%100s", ""); gsub(/ /, "x", pad)
    for (i = 0; i < count; i++) printf "%019d %s\n", i, substr(pad, 1, i % 100) }' >"$scratch/lines"

.build/release/broker --port 0 >"$scratch/broker" &
broker=$!
servers+=("$broker")
wait_for "$scratch/broker" '^Listening' "$broker"
broker_port=$(sed -n 's/^Listening on port //p' "$scratch/broker")

# By default mosquitto drops messages beyond 1,000 for a subscriber, and logs.
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n' "$mosquitto_port" \
    >"$scratch/configuration"
mosquitto -c "$scratch/configuration" >"$scratch/mosquitto" 2>&1 &
mosquitto=$!
servers+=("$mosquitto")
wait_for "$scratch/mosquitto" 'running' "$mosquitto"

echo "$subscribers subscribers, $messages messages, QoS $qos, beside $(mosquitto -h | head -1)"
printf '%-10s %10s %14s %10s %12s\n' broker "s of CPU" "µs a delivery" "s in all" "incomplete"
for round in $(seq "$rounds"); do
    if [ $((round % 2)) -eq 0 ]; then run mosquitto "$mosquitto" "$mosquitto_port"; fi
    run broker "$broker" "$broker_port"
    if [ $((round % 2)) -eq 1 ]; then run mosquitto "$mosquitto" "$mosquitto_port"; fi
done
