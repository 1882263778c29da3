#!/usr/bin/env bash
# The examples' speed: keyvalue beside a real Redis server, in turns, and http-hello alone.
#
#   apt-get install redis-server redis-tools wrk        # once
#   swift build -c release --package-path Examples && Examples/measure.sh [ROUNDS] [REQUESTS]
#
# What a client measures depends on what else the machine does; the processor time of a request, user and system,
# depends on it less.
set -euo pipefail
cd "$(dirname "$0")"

rounds=${1:-5}
requests=${2:-1000000}
# For the Redis server, which does not say which free one it took.
redis_port=${REDIS_PORT:-7379}
http_seconds=5
http_connections=50

for tool in redis-server redis-cli redis-benchmark wrk; do
    command -v "$tool" >/dev/null || { echo "measure: $tool is not installed (see the head of this file)" >&2; exit 1; }
done
bin=.build/release
for program in keyvalue http-hello; do
    [ -x "$bin/$program" ] || { echo "measure: build first: swift build -c release --package-path Examples" >&2; exit 1; }
done

# shellcheck source=Examples/measuring.sh
. ./measuring.sh

# Starts the example $1, and leaves its process and port in `pid` and `port`.
start() {
    "$bin/$1" --port 0 >"$scratch/$1" &
    pid=$!
    servers+=("$pid")
    port=
    while [ -z "$port" ]; do
        kill -0 "$pid" || exit 1
        sleep 0.05
        port=$(sed -n 's/^Listening on port //p' "$scratch/$1")
    done
}

# One run of redis-benchmark's test $4 against process $2 on port $3: a line for $1 in the results.
run_redis() {
    local before
    before=$(ticks "$2")
    redis-benchmark -p "$3" -P 16 -t "$4" -n "$requests" -q >"$scratch/output"
    tr '\r' '\n' <"$scratch/output" | awk -v server="$1" -v test="$4" -v ticks="$(($(ticks "$2") - before))" \
        -v requests="$requests" -v hz="$(getconf CLK_TCK)" \
        '/requests per second/ { printf "%s %s %.0f %.3f\n", server, test, $2, ticks / hz / requests * 1e6 }' \
        >>"$scratch/results"
}

# Median, least and most of column $3 of the results of server $1 in test $2.
spread() {
    awk -v server="$1" -v test="$2" -v column="$3" '$1 == server && $2 == test { print $column }' "$scratch/results" |
        sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)], v[1], v[NR] }'
}

start keyvalue
keyvalue=$pid
keyvalue_port=$port
redis-server --port "$redis_port" --bind 127.0.0.1 --save "" --appendonly no --dir "$scratch" >"$scratch/redis" &
redis=$!
servers+=("$redis")
until redis-cli -p "$redis_port" ping >/dev/null 2>&1; do
    kill -0 "$redis" 2>/dev/null || { tail -3 "$scratch/redis" >&2; exit 1; }
    sleep 0.05
done

for round in $(seq "$rounds"); do
    for test in set get; do
        # In turns, and who is first changes too.
        if [ $((round % 2)) -eq 0 ]; then run_redis redis "$redis" "$redis_port" "$test"; fi
        run_redis keyvalue "$keyvalue" "$keyvalue_port" "$test"
        if [ $((round % 2)) -eq 1 ]; then run_redis redis "$redis" "$redis_port" "$test"; fi
    done
done

echo "redis-benchmark -P 16, $requests requests a run, $rounds rounds, beside $(redis-server --version | cut -d' ' -f1-3)"
printf '%-5s %-9s %12s %25s %14s %17s\n' test server requests/s "(least to most)" "µs of CPU" "(least to most)"
for test in set get; do
    for server in keyvalue redis; do
        read -r rate least most < <(spread "$server" "$test" 3)
        read -r time shortest longest < <(spread "$server" "$test" 4)
        printf '%-5s %-9s %12s %25s %13s %17s\n' "$test" "$server" "$rate" "($least to $most)" "$time" "($shortest to $longest)"
    done
done

start http-hello
for round in $(seq "$rounds"); do
    before=$(ticks "$pid")
    wrk -t 1 -c "$http_connections" -d "$http_seconds" "http://127.0.0.1:$port/" >"$scratch/output"
    after=$(ticks "$pid")
    awk -v ticks="$((after - before))" -v hz="$(getconf CLK_TCK)" \
        '/Requests\/sec/ { rate = $2 } /requests in/ { count = $1 } /Non-2xx|Socket errors/ { print > "/dev/stderr" }
         END { printf "wrk http-hello %.0f %.3f\n", rate, ticks / hz / count * 1e6 }' "$scratch/output" >>"$scratch/results"
done
echo
echo "wrk -t 1 -c $http_connections -d $http_seconds against http-hello, $rounds rounds"
read -r rate least most < <(spread wrk http-hello 3)
read -r time shortest longest < <(spread wrk http-hello 4)
echo "$rate requests/s ($least to $most), $time µs of CPU each ($shortest to $longest)"
