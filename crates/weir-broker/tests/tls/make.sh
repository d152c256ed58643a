#!/usr/bin/env bash
# Makes the certificates of the tests again. Their keys are public: they are in this repository and protect nothing.
set -euo pipefail
cd "$(dirname "$0")"
days=36500

key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }

authority() {
  key "$1.key"
  openssl req -x509 -new -key "$1.key" -days $days -subj "/CN=$2" -out "$1.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}

# signed NAME AUTHORITY SUBJECT EXTENSIONS
signed() {
  key "$1.key"
  openssl req -new -key "$1.key" -subj "$3" -utf8 -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -days $days -out "$1.pem" -extfile <(printf '%s\n' "$4")
  rm "$1.csr"
}

authority ca "weir tests"
authority other-ca "another authority"
server="subjectAltName=DNS:localhost,IP:127.0.0.1
extendedKeyUsage=serverAuth"
client="extendedKeyUsage=clientAuth"
signed server ca "/CN=localhost" "$server"
signed server-2 ca "/CN=second" "$server"
signed client ca "/C=DE/O=Acme, Inc./OU=Plant;7+L=Ulm/OU=#Pümpen/CN=pump-7" "$client"
signed stranger other-ca "/CN=pump-7" "$client"
signed odd ca "/DC=org/DC=example/UID=7/emailAddress=a@example.org/CN= x " "$client"
rm -f ./*.srl ca.key other-ca.key
