#!/bin/sh
# Installs what the package needs where apt is the way to do it, and says what to do elsewhere: the headers of libuv,
# the headers of OpenSSL for CallbackTLS, OpenSSL's command for the tests of that, and pkg-config, which finds headers.
# Does nothing, and says nothing, when new enough ones are there. Needs no arguments.
set -eu

is_missing=no

# The version of the library that pkg-config calls $1 and Debian $2, or nothing.
installed() {
    if command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "$1"; then
        pkg-config --modversion "$1"
    elif command -v dpkg-query >/dev/null 2>&1; then
        dpkg-query -W -f '${Version}\n' "$2" 2>/dev/null | sed 's/-.*//' || true
    fi
}

# Whether version $1 is at least $2.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1)" = "$2" ]
}

# Looks for library $1, Debian's package $2, of which $3 needs version $4 or newer.
look_for() {
    version=$(installed "$1" "$2")
    if [ -z "$version" ]; then
        is_missing=yes
    elif ! at_least "$version" "$4"; then
        echo "$1 $version is installed, but $3 needs $4 or newer." >&2
        # All but CallbackTLS works without OpenSSL.
        [ "$1" = openssl ] || exit 1
    fi
}

look_for libuv libuv1-dev CallbackServer 1.44.2
look_for openssl libssl-dev CallbackTLS 3.0.0
command -v openssl >/dev/null 2>&1 || is_missing=yes
[ "$is_missing" = yes ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    cat >&2 <<HELP
CallbackServer needs libuv 1.44.2 or newer, and CallbackTLS needs OpenSSL 3.0 or newer, with their headers. Install them
with one of
    dnf install libuv-devel openssl-devel openssl pkgconf     (Fedora, RHEL, Amazon Linux)
    apk add libuv-dev openssl-dev openssl pkgconf             (Alpine)
    pacman -S libuv openssl pkgconf                           (Arch)
    zypper install libuv-devel libopenssl-devel openssl pkgconf    (openSUSE)
and try again.
HELP
    exit 1
fi

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}
as_root apt-get update
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y libuv1-dev libssl-dev openssl pkg-config
