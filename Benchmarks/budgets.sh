#!/usr/bin/env bash
# What one round trip costs each server, in figures that repeat on any machine however busy: instructions in
# user space, and allocations. Exit status 1 when a budget is exceeded.
#
#   swift build -c release && swift build -c release --package-path Benchmarks && Benchmarks/budgets.sh
set -euo pipefail
cd "$(dirname "$0")"

# Of the C server over libuv's instructions, for the libuv engine.
most_of_c_libuv=1.15
# Instructions in all, for the epoll engine.
most_for_epoll=300
# Of the libuv engine's instructions, for the program echo: it has nothing to do besides, and no second thread.
most_of_engine=1.01

# Of the C server over OpenSSL's instructions, for a message and for a connection over TLS. The goal for a message is
# 1.02, which is not reached.
most_of_c_tls=1.05
most_of_c_tls_connection=1.03

# Instructions for a message with a length of 4 bytes, above the call of its callback.
most_for_message=40

# For a line, above the read, of a loop over memchr by hand that does the same.
most_of_line_by_hand=1.2

# Two runs of different length: start-up, the connection and the end cost both the same, and cancel out.
few=1000
many=3000
few_handshakes=20
many_handshakes=70
message=64

# A server that does not say within so many seconds where it listens never will, even under valgrind.
patience=60

if ! command -v valgrind >/dev/null; then
    echo "not measured: valgrind is not installed"
    exit 0
fi

bin=.build/release
echo=../.build/release/echo
for program in echo-libuv-c echo-epoll-c echo-callbackserver echo-async echo-libuv-tls-c round-trips framing; do
    if [ ! -x "$bin/$program" ]; then
        echo "budgets: $program is not built: swift build -c release --package-path Benchmarks" >&2
        exit 1
    fi
done

scratch=$(mktemp -d)
server=
clean_up() {
    if [ -n "$server" ]; then kill -KILL "$server" 2>/dev/null || true; fi
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Seeds of Swift's hash tables would otherwise differ from run to run, and with them the instructions.
export SWIFT_DETERMINISTIC_HASHING=1

# What round-trips gets behind the size: for TLS.
client_options=()

# Runs "$3..." under valgrind's tool $1 for $2 round trips, and leaves what the tool reports in $scratch/report.
measure() {
    local tool=$1 rounds=$2 port='' started=$SECONDS
    shift 2
    valgrind --tool="$tool" --log-file="$scratch/report" "${tool_options[@]}" "$@" >"$scratch/output" &
    server=$!
    while [ -z "$port" ]; do
        if ! kill -0 "$server" 2>/dev/null || [ $((SECONDS - started)) -ge "$patience" ]; then
            echo "budgets: $* does not listen:" >&2
            cat "$scratch/report" "$scratch/output" >&2
            exit 1
        fi
        sleep 0.05
        port=$(sed -n 's/^Listening on port //p' "$scratch/output")
    done
    "$bin/round-trips" "$port" "$rounds" "$message" "${client_options[@]}"
    kill -TERM "$server"
    # A server that fails has not done the work that is measured.
    wait "$server" || { echo "budgets: $* ended with status $?" >&2; exit 1; }
    server=
}

# The following leave their result in `figure`, not on standard output: in a subshell neither the server's
# number nor the end of the script would reach the trap above.

instructions_in_all() {
    tool_options=(--callgrind-out-file="$scratch/profile")
    measure callgrind "$@"
    figure=$(sed -n 's/^totals: //p' "$scratch/profile")
}

allocations_in_all() {
    tool_options=(--leak-check=no)
    measure memcheck "$@"
    figure=$(sed -n 's/.*total heap usage: \([0-9,]*\) allocs.*/\1/p' "$scratch/report" | tr -d ,)
}

# What the round trips that only the longer run made have cost, by the measure $1: leaves it in `difference`.
compare() {
    local how=$1 shorter
    shift
    "$how" "$few" "$@"
    shorter=$figure
    "$how" "$many" "$@"
    difference=$((figure - shorter))
}

calculate() { awk "BEGIN { printf \"%.*f\", $1, $2 }"; }
exceeds() { awk "BEGIN { exit !($1 > $2) }"; }

exceeded=()

# Begins a table of what $1 costs, and what it is of $2's, the first server in it.
table() {
    reference=
    printf '%-24s %12s %12s %12s\n' "$1" instructions "of $2" allocations
}

# Measures the server called $1 and started by "$2...", and prints its line of the table.
row() {
    local name=$1
    shift
    compare instructions_in_all "$@"
    instructions=$(calculate 1 "$difference / ($many - $few)")
    reference=${reference:-$instructions}
    ratio=$(calculate 3 "$instructions / $reference")
    compare allocations_in_all "$@"
    allocations=$difference
    printf '%-24s %12s %12s %12s\n' "$name" "$instructions" "$ratio" \
        "$(calculate 3 "$allocations / ($many - $few)")"
}

table "$message-byte round trip" "C libuv"
row "C libuv" "$bin/echo-libuv-c"
row "C epoll" "$bin/echo-epoll-c"
for engine in $("$bin/echo-callbackserver" --list-engines); do
    row "$engine engine" "$bin/echo-callbackserver" --engine "$engine"
    if [ "$allocations" -ne 0 ]; then
        exceeded+=("$engine engine: $allocations allocations in $((many - few)) round trips; the budget is 0")
    fi
    case $engine in
    libuv)
        libuv_engine=$instructions
        if exceeds "$ratio" "$most_of_c_libuv"; then
            exceeded+=("libuv engine: $ratio of C libuv's instructions; the budget is $most_of_c_libuv")
        fi
        ;;
    epoll)
        if exceeds "$instructions" "$most_for_epoll"; then
            exceeded+=("epoll engine: $instructions instructions; the budget is $most_for_epoll")
        fi
        ;;
    esac
done

# A task for each connection: the array that it gets for each read. Some more are made by the second, not by the
# message, for the timer that looks at connections that do not read: a run on a busy machine has more of these.
row "libuv engine, async" "$bin/echo-async"
if [ "$allocations" -gt "$(((many - few) * 101 / 100))" ]; then
    exceeded+=("libuv engine, async: $allocations allocations in $((many - few)) round trips; the budget is one each")
fi

# The library's own program, as users start it.
if [ -x "$echo" ]; then
    # valgrind 3.19 gives up at the forms of DWARF 5 in it, and needs none of it.
    strip --strip-debug -o "$scratch/echo" "$echo"
    row "echo program" "$scratch/echo" --quiet --port 0
    if [ "$allocations" -ne 0 ]; then
        exceeded+=("echo program: $allocations allocations in $((many - few)) round trips; the budget is 0")
    fi
    if exceeds "$instructions" "$libuv_engine * $most_of_engine"; then
        exceeded+=("echo program: $instructions instructions, more than $most_of_engine of the libuv engine's")
    fi
else
    echo "echo program: not measured: swift build -c release makes it" >&2
fi

# The same over TLS 1.3, and connections: connect, handshake, one round trip, close.
sh certificate.sh "$scratch"
tls_servers() {
    row "C TLS" "$bin/echo-libuv-tls-c" "$scratch/certificate.pem" "$scratch/key.pem"
    if [ ! -x "$bin/echo-tls" ]; then return; fi
    row "libuv engine, TLS" "$bin/echo-tls" "$scratch/certificate.pem" "$scratch/key.pem"
    if exceeds "$ratio" "$1"; then
        exceeded+=("libuv engine, TLS: $ratio of C TLS's instructions${client_options[1]:+, ${client_options[1]}}; \
the budget is $1")
    fi
}

echo
client_options=("$scratch/certificate.pem")
table "$message bytes over TLS" "C TLS"
tls_servers "$most_of_c_tls"
few=$few_handshakes
many=$many_handshakes
for handshake in full resumed; do
    echo
    client_options=("$scratch/certificate.pem" "$handshake")
    table "TLS, $handshake handshake" "C TLS"
    tls_servers "$most_of_c_tls_connection"
done
if [ ! -x "$bin/echo-tls" ]; then echo "libuv engine, TLS: not measured: echo-tls is not there" >&2; fi

# What a frame costs, of those that a longer run had more; 100 frames a round.
frames_few=10
frames_many=110

instructions_of_frames() {
    valgrind --tool=callgrind --log-file="$scratch/report" --callgrind-out-file="$scratch/profile" \
        "$bin/framing" "$1" "$2"
    figure=$(sed -n 's/^totals: //p' "$scratch/profile")
}

allocations_of_frames() {
    valgrind --tool=memcheck --leak-check=no --log-file="$scratch/report" "$bin/framing" "$1" "$2"
    figure=$(sed -n 's/.*total heap usage: \([0-9,]*\) allocs.*/\1/p' "$scratch/report" | tr -d ,)
}

declare -A frame
printf '\n%-24s %12s %12s\n' "40-byte frame" instructions allocations
for mode in data callback lines-at-least lines-by-hand lines messages-by-hand messages; do
    for how in instructions_of_frames allocations_of_frames; do
        "$how" "$mode" "$frames_few"
        shorter=$figure
        "$how" "$mode" "$frames_many"
        frame[$how]=$((figure - shorter))
    done
    frame[$mode]=$(calculate 1 "${frame[instructions_of_frames]} / (100 * ($frames_many - $frames_few))")
    printf '%-24s %12s %12s\n' "$mode" "${frame[$mode]}" "${frame[allocations_of_frames]}"
    if [ "${frame[allocations_of_frames]}" -ne 0 ]; then
        exceeded+=("$mode: ${frame[allocations_of_frames]} allocations for frames; the budget is 0")
    fi
done
if exceeds "${frame[messages]} - ${frame[callback]}" "$most_for_message"; then
    exceeded+=("messages: more than $most_for_message instructions above the callback")
fi
line=$(calculate 2 "(${frame[lines]} - ${frame[data]}) / (${frame[lines-by-hand]} - ${frame[data]})")
printf 'a line, of one by hand: %s\n' "$line"
if exceeds "$line" "$most_of_line_by_hand"; then
    exceeded+=("lines: more than $most_of_line_by_hand of a loop by hand")
fi

if [ ${#exceeded[@]} -gt 0 ]; then
    printf 'over budget: %s\n' "${exceeded[@]}" >&2
    exit 1
fi
