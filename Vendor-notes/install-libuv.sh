#!/bin/sh
# Installs libuv's headers where apt is the way to do it, and says what to do elsewhere.
# Does nothing, and says nothing, when a new enough libuv is there. Needs no arguments.
set -eu

oldest=1.44.2

# The version of the installed libuv, or nothing.
installed() {
    if command -v pkg-config >/dev/null 2>&1 && pkg-config --exists libuv; then
        pkg-config --modversion libuv
    elif command -v dpkg-query >/dev/null 2>&1; then
        dpkg-query -W -f '${Version}\n' libuv1-dev 2>/dev/null | sed 's/-.*//' || true
    fi
}

# Whether version $1 is at least $2.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1)" = "$2" ]
}

version=$(installed)
if [ -n "$version" ]; then
    at_least "$version" "$oldest" && exit 0
    echo "libuv $version is installed, but CallbackServer needs $oldest or newer." >&2
    exit 1
fi

if ! command -v apt-get >/dev/null 2>&1; then
    cat >&2 <<HELP
CallbackServer needs libuv $oldest or newer, with its headers. Install it with one of
    dnf install libuv-devel        (Fedora, RHEL, Amazon Linux)
    apk add libuv-dev              (Alpine)
    pacman -S libuv                (Arch)
    zypper install libuv-devel     (openSUSE)
and try again.
HELP
    exit 1
fi

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}
as_root apt-get update
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y libuv1-dev
