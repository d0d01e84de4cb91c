# Redis from Debian's package, as a cache: nothing is kept over a restart.
# shellcheck shell=bash disable=SC2154

redis_get() { debian redis-server redis-server && debian redis-cli redis-tools; }
redis_port() { echo 16379; }
redis_version() { redis-server --version | sed -E 's/.*v=([0-9.]+).*/Redis \1/'; }
redis_ready() { [ "$(redis-cli -h 127.0.0.1 -p "$(redis_port)" ping 2>/dev/null)" = PONG ]; }
redis_env() { echo "export TRIPLINE_TEST_REDIS=redis://127.0.0.1:$(redis_port)"; }

redis_start() {
    local folder=$state/redis
    mkdir -p "$folder"
    cat >"$folder/redis.conf" <<CONF
bind 127.0.0.1
port $(redis_port)
dir $folder
save ""
appendonly no
set-proc-title no
CONF
    launch redis redis-server "$folder/redis.conf"
}
