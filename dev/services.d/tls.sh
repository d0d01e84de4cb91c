# Certificates for the services that speak TLS: an authority made on this machine, and what it says
# of 127.0.0.1. Its key is thrown away, so nothing else can be signed in its name.
# shellcheck shell=bash disable=SC2154

tls_ca=$state/tls/ca.pem
# The key, and the chain after it.
tls_server=$state/tls/server.pem

# Makes them unless they are there; fails where openssl can't be had.
tls_get() {
    local folder=$state/tls.part
    debian openssl openssl || return 1
    [ ! -f "$tls_server" ] || return 0
    rm -rf "$folder" "$state/tls"
    mkdir -m 755 "$folder"
    if ! tls_make "$folder" 2>"$state/tls.log"; then
        cat "$state/tls.log" >&2
        return 1
    fi
    mv "$folder" "$state/tls"
}

tls_env() {
    echo "export TRIPLINE_TEST_CA=$tls_ca"
    echo "export TRIPLINE_TEST_CERTIFICATE=$tls_server"
}

tls_make() {
    local folder=$1 key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc)
    openssl req -x509 "${key[@]}" -keyout "$folder/ca.key" -out "$folder/ca.pem" -days 3650 \
        -subj "/CN=Tripline's tests" -addext keyUsage=critical,keyCertSign &&
        openssl req -x509 "${key[@]}" -keyout "$folder/server.pem" -out "$folder/server.crt" -days 3650 \
            -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -subj /CN=127.0.0.1 \
            -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 &&
        cat "$folder/server.crt" >>"$folder/server.pem" &&
        rm "$folder/ca.key" "$folder/server.crt"
}
