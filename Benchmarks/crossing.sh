#!/usr/bin/env bash
# What `waker.execute` costs from another thread, beside uv_async_send with a list behind a mutex in C: processor time
# of both threads for each, in nanoseconds, in turns. The budget is 2.0 times.
#
#   swift build -c release --package-path Benchmarks && Benchmarks/crossing.sh [ROUNDS [COUNT]]
set -euo pipefail
cd "$(dirname "$0")/.build/release"
rounds=${1:-9}
count=${2:-1000000}
c=() swift=() ratios=()
for ((round = 0; round < rounds; round++)); do
    if ((round % 2)); then
        c+=("$(./crossing-libuv-c "$count")")
        swift+=("$(./crossing "$count")")
    else
        swift+=("$(./crossing "$count")")
        c+=("$(./crossing-libuv-c "$count")")
    fi
    ratios+=("$(awk "BEGIN { printf \"%.2f\", ${swift[-1]} / ${c[-1]} }")")
done

# The median of "$2...", with the least and the most.
show() {
    local name=$1
    shift
    printf '%s\n' "$@" | sort -n | awk -v name="$name" \
        '{ all[NR] = $1 } END { printf "%-16s %s (%s to %s)\n", name, all[int((NR + 1) / 2)], all[1], all[NR] }'
}
show "C libuv, ns" "${c[@]}"
show "waker, ns" "${swift[@]}"
show "ratio by rounds" "${ratios[@]}"
