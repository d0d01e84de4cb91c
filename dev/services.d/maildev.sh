# MailDev: a mail server whose mails a program reads over HTTP: GET /email lists them, also by
# field (/email?envelope.to.address=a@b.c), GET /email/ID/source is one as it came, DELETE /email/all.
# It has neither TLS nor logins.
# shellcheck shell=bash disable=SC2154

maildev_number=2.2.1
maildev_folder=$tools/maildev-$maildev_number

maildev_version() { echo "MailDev $maildev_number"; }
maildev_port() { echo 11025; }
maildev_ready() { port_taken "$(maildev_port)" && http_ok 18025 /healthz; }

maildev_env() {
    echo "export TRIPLINE_TEST_MAILDEV_SMTP=127.0.0.1:$(maildev_port)"
    echo "export TRIPLINE_TEST_MAILDEV_HTTP=http://127.0.0.1:18025"
}

maildev_get() {
    debian node nodejs || return 1
    [ ! -d "$maildev_folder" ] || return 0
    debian npm npm || return 1
    say "installing MailDev $maildev_number (about 40 MB, once)"
    rm -rf "$maildev_folder.part"
    npm install --prefix "$maildev_folder.part" --ignore-scripts --no-audit --no-fund --loglevel=error \
        "maildev@$maildev_number" >&2 9>&- || { say "npm could not install maildev"; return 1; }
    mv "$maildev_folder.part" "$maildev_folder"
}

maildev_start() {
    mkdir -p "$state/maildev/mails"
    launch maildev node "$maildev_folder/node_modules/maildev/bin/maildev" --silent \
        --ip 127.0.0.1 --smtp "$(maildev_port)" --web 18025 --mail-directory "$state/maildev/mails"
}
