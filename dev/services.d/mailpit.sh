# shellcheck shell=bash disable=SC2154
mailpit_get() { say 'mailpit: not yet'; return 1; }
mailpit_port() { echo 1; }
mailpit_version() { echo mailpit; }
