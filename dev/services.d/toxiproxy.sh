# Toxiproxy: cuts, delays and slows the way to a service. There is a proxy before each service,
# named as the service is; tests that change a proxy make one of their own (its listener on port 0),
# except for Kafka's, which its brokers send their clients to.
# shellcheck shell=bash disable=SC2154

toxiproxy_number=2.5.0
toxiproxy_bin=$tools/toxiproxy-$toxiproxy_number

toxiproxy_version() { echo "Toxiproxy $toxiproxy_number"; }
toxiproxy_port() { echo 18474; }
toxiproxy_ready() { http_ok "$(toxiproxy_port)" /version; }
toxiproxy_env() { echo "export TRIPLINE_TEST_TOXIPROXY=http://127.0.0.1:$(toxiproxy_port)"; }
toxiproxy_get() { go_install "$toxiproxy_bin" github.com/Shopify/toxiproxy/v2/cmd/server "v$toxiproxy_number"; }

toxiproxy_start() {
    local folder=$state/toxiproxy unit listen to lines=()
    mkdir -p "$folder"
    while read -r unit listen to; do
        lines+=("{\"name\": \"$unit\", \"listen\": \"127.0.0.1:$listen\", \"upstream\": \"127.0.0.1:$to\", \"enabled\": true}")
    done <<PORTS
kafka-1 19392 19292
kafka-2 19393 19293
kafka-3 19394 19294
mysql 13307 $(mysql_port)
redis 16380 $(redis_port)
maildev 11026 $(maildev_port)
PORTS
    (IFS=, && echo "[${lines[*]}]") >"$folder/proxies.json"
    launch toxiproxy "$toxiproxy_bin" -host 127.0.0.1 -port "$(toxiproxy_port)" -config "$folder/proxies.json"
}
