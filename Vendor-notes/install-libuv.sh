#!/bin/sh
# Earlier name of install.sh, which installs OpenSSL's headers too.
exec sh "$(dirname "$0")/install.sh" "$@"
