#!/bin/sh
# Makes a self-signed P-256 certificate for localhost and 127.0.0.1, and its key: certificate.pem and key.pem in the
# folder $1. They are for one measurement, which deletes them.
set -eu
if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "usage: certificate.sh FOLDER" >&2
    exit 64
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$1/key.pem" -out "$1/certificate.pem" 2>"$1/errors" || { cat "$1/errors" >&2; exit 1; }
rm "$1/errors"
