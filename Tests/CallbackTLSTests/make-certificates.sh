#!/bin/sh
# Makes the certificates and keys that tests speak TLS with: make-certificates.sh FOLDER
#
# Each is for 127.0.0.1, ::1, localhost and *.example.test, unless its name says otherwise.
set -eu
cd "$1"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>/dev/null; }

# root NAME: a self-signed root.
root() {
    key "$1"
    openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 30 -out "$1.pem" \
        -addext basicConstraints=critical,CA:TRUE 2>/dev/null
}

# sign NAME ISSUER SUBJECT EXTENSIONS [OPTION ...]: a certificate with a key of its own.
sign() {
    name=$1 issuer=$2 subject=$3 extensions=$4
    shift 4
    [ -f "$name.key" ] || key "$name"
    openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr" 2>/dev/null
    printf '%s\n' "$extensions" > "$name.ext"
    openssl x509 -req -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer.key" -CAcreateserial -extfile "$name.ext" \
        -out "$name.pem" "$@" 2>/dev/null
    rm "$name.csr" "$name.ext"
}

local_names='subjectAltName=DNS:localhost,DNS:*.example.test,IP:127.0.0.1,IP:::1'

root root
root stranger
sign middle root /CN=middle 'basicConstraints=critical,CA:TRUE' -days 30
sign leaf middle /CN=localhost "$local_names" -days 30
cat leaf.pem middle.pem > chain.pem
sign other root /CN=other.test 'subjectAltName=DNS:other.test' -days 30
sign common root /CN=localhost keyUsage=digitalSignature -days 30
sign client root /CN=client 'extendedKeyUsage=clientAuth' -days 30
sign strange stranger /CN=strange 'subjectAltName=DNS:localhost,IP:127.0.0.1' -days 30
# It ended on the day it began, in the past.
openssl req -new -key leaf.key -subj /CN=expired -out expired.csr 2>/dev/null
printf '%s\n' "$local_names" > expired.ext
mkdir -p past && : > past/index && echo 01 > past/serial
cat > past/config <<END
[ca]
default_ca = past
[past]
new_certs_dir = past
database = past/index
serial = past/serial
default_md = sha256
policy = any
[any]
commonName = supplied
END
openssl ca -batch -config past/config -cert root.pem -keyfile root.key -in expired.csr -extfile expired.ext \
    -startdate 20200101000000Z -enddate 20200102000000Z -notext -out expired.pem 2>/dev/null
# With RSA, as most servers have.
openssl req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.pem -subj /CN=localhost -days 30 \
    -addext "$local_names" 2>/dev/null
# Too weak for the security level of Debian.
openssl req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.pem -subj /CN=localhost -days 30 2>/dev/null
# leaf.key, encrypted with `secret`.
openssl pkcs8 -topk8 -in leaf.key -passout pass:secret -out encrypted.key 2>/dev/null
printf 'not a certificate\n' > text.pem
sed '5,6s/./A/g' leaf.pem > damaged.pem
