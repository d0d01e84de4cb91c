# shellcheck shell=bash disable=SC2154
kafka_get() { say 'kafka: not yet'; return 1; }
kafka_port() { echo 1; }
kafka_version() { echo kafka; }
