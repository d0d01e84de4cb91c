# MySQL's protocol, by Debian's MariaDB: as durable as in production, strict as MySQL 8.4 is.
# The user tripline (password tripline) may do anything in databases named tripline_...; so may
# tripline-tls, over TLS only.
# shellcheck shell=bash disable=SC2154

mysql_get() { debian mariadbd mariadb-server-core && debian mariadb mariadb-client-core && tls_get; }
mysql_port() { echo 13306; }
mysql_version() { mariadbd --version | sed -E 's/.*Ver ([0-9.]+)-.*/MariaDB \1/'; }
mysql_ready() {
    mariadb --no-defaults --protocol=tcp --host=127.0.0.1 --port="$(mysql_port)" \
        --user=tripline --password=tripline -e 'SELECT 1' >/dev/null 2>&1
}
mysql_env() {
    echo "export TRIPLINE_TEST_MYSQL=mysql://tripline:tripline@127.0.0.1:$(mysql_port)"
    echo "export TRIPLINE_TEST_MYSQL_TLS=mysql://tripline-tls:tripline@127.0.0.1:$(mysql_port)"
    tls_env
}

# Whom it runs as: not root, unless only root can reach the folder.
mysql_user() {
    local user
    if [ "$(id -u)" -ne 0 ]; then
        id -un
        return
    fi
    for user in mysql nobody; do
        if setpriv --reuid "$user" --clear-groups test -x "$state/mysql" 2>/dev/null; then
            echo "$user"
            return
        fi
    done
    echo root
}

# Writes down every statement that the server is sent, and hands the record over at the end.
mysql_record() {
    local folder=$state/mysql switch=(mariadb --no-defaults --socket="$state/mysql/data/socket" --user=root -e)
    case $1 in
        on)
            rm -f "$folder/data/statements.log"
            "${switch[@]}" "SET GLOBAL log_output='FILE', general_log_file='statements.log', general_log=ON"
            ;;
        off)
            "${switch[@]}" "SET GLOBAL general_log=OFF"
            cat "$folder/data/statements.log"
            rm -f "$folder/data/statements.log"
            ;;
    esac
}

mysql_start() {
    local folder=$state/mysql user
    mkdir -p "$folder"
    chmod 755 "$folder"
    user=$(mysql_user)
    if [ ! -f "$folder/made" ]; then
        rm -rf "$folder/data"
        mkdir -p "$folder/data"
        say "making MariaDB's folder"
        mariadb-install-db --no-defaults --user="$user" --datadir="$folder/data" \
            --auth-root-authentication-method=normal --skip-test-db >"$folder/log" 2>&1 ||
            { tail -n 20 "$folder/log" >&2; return 1; }
        touch "$folder/made"
    fi
    cat >"$folder/grants.sql" <<'SQL'
CREATE USER IF NOT EXISTS 'tripline'@'127.0.0.1' IDENTIFIED BY 'tripline';
GRANT ALL ON `tripline\_%`.* TO 'tripline'@'127.0.0.1';
CREATE USER IF NOT EXISTS 'tripline-tls'@'127.0.0.1' IDENTIFIED BY 'tripline' REQUIRE SSL;
GRANT ALL ON `tripline\_%`.* TO 'tripline-tls'@'127.0.0.1';
SQL
    install -m 600 "$tls_server" "$folder/tls.pem"
    chown -R "$user" "$folder"
    # A socket's path may not be long: it is relative to the folder of the data.
    launch mysql mariadbd --no-defaults --user="$user" --datadir="$folder/data" --socket=socket \
        --pid-file=pid --init-file="$folder/grants.sql" --bind-address=127.0.0.1 --port="$(mysql_port)" \
        --ssl-cert="$folder/tls.pem" --ssl-key="$folder/tls.pem" --skip-name-resolve --max-connections=500 --character-set-server=utf8mb4 \
        --default-time-zone=+00:00 --skip-log-bin --innodb-flush-log-at-trx-commit=1 \
        --innodb-buffer-pool-size=256M --innodb-log-file-size=96M \
        --sql-mode=ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION
}
