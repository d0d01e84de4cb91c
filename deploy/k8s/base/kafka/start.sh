#!/bin/sh
# Starts one Kafka server. Its number is the last part of the pod's name.
#   ROLES      broker,controller or broker or controller
#   VOTERS     the controllers: ID@HOST:9093,...
#   DOMAIN     the headless Service of this server's pods
#   CLUSTER    the cluster's id, the same for all
#   KAFKA_HOME where Kafka is
set -eu
host=$(hostname)
id=${host##*-}
settings=${SETTINGS:-/tmp/server.properties}
listeners= advertised=
case $ROLES in *broker*)
    listeners=CLIENTS://:9092
    advertised=CLIENTS://kafka-broker-$id-service:9092
    ;;
esac
case $ROLES in *controller*)
    listeners=${listeners:+$listeners,}CONTROLLER://:9093
    advertised=${advertised:+$advertised,}CONTROLLER://$host.$DOMAIN:9093
    ;;
esac
{
    cat "${SHARED:-/etc/kafka-config/server.properties}"
    echo "process.roles=$ROLES"
    echo "node.id=$id"
    echo "controller.quorum.voters=$VOTERS"
    echo "listeners=${LISTENERS:-$listeners}"
    echo "advertised.listeners=${ADVERTISED:-$advertised}"
    echo "log.dirs=${DATA:-/var/lib/kafka/data}/log"
} >"$settings"
"$KAFKA_HOME/bin/kafka-storage.sh" format --ignore-formatted --cluster-id "$CLUSTER" --config "$settings"
exec "$KAFKA_HOME/bin/kafka-server-start.sh" "$settings"
