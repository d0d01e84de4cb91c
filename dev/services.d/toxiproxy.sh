# shellcheck shell=bash disable=SC2154
toxiproxy_get() { say 'toxiproxy: not yet'; return 1; }
toxiproxy_port() { echo 1; }
toxiproxy_version() { echo toxiproxy; }
