# Apache Kafka in KRaft mode: kafka-1 to kafka-3 with their controller apart, so that any broker
# can go without taking the quorum along; and kafka-one, broker and controller in one process.
# Besides its own port, each broker of the cluster has a listener that is reached through Toxiproxy
# (ports 19392 to 19394), which sends the clients there for everything that follows, too; kafka-one
# has one (port 19193) that speaks TLS and knows alice, by PLAIN and by SCRAM.
# shellcheck shell=bash disable=SC2154

kafka_pom=$here/services.d/kafka/pom.xml
kafka_number=$(sed -n '/kafka_2.13/{n;s/[^0-9.]//gp;}' "$kafka_pom")
kafka_jars=$tools/kafka-$kafka_number
kafka_brokers=(kafka-1 kafka-2 kafka-3)

kafka_version() { echo "Apache Kafka $kafka_number"; }

kafka_get() {
    debian java openjdk-17-jre-headless && tls_get || return 1
    [ ! -d "$kafka_jars" ] || return 0
    debian mvn maven || return 1
    say "resolving the jars of Apache Kafka $kafka_number (about 55 MB, once)"
    rm -rf "$kafka_jars.part"
    mvn --batch-mode --no-transfer-progress --quiet --file "$kafka_pom" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$kafka_jars.part" >&2 9>&- ||
        { say "Maven could not resolve $kafka_pom"; return 1; }
    mv "$kafka_jars.part" "$kafka_jars"
}

kafka_port() {
    case $1 in
        kafka-controller) echo 19091 ;;
        kafka-one) echo 19192 ;;
        *) echo $((19091 + ${1#kafka-})) ;;
    esac
}

kafka_env() {
    case $1 in
        kafka-one)
            echo "export TRIPLINE_TEST_KAFKA_ONE=127.0.0.1:19192"
            echo "export TRIPLINE_TEST_KAFKA_SASL=127.0.0.1:19193"
            echo "export TRIPLINE_TEST_KAFKA_PASSWORD=$(cat "$state/kafka-one/password")"
            tls_env
            ;;
        kafka-1)
            echo "export TRIPLINE_TEST_KAFKA=127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094"
            ! running toxiproxy ||
                echo "export TRIPLINE_TEST_KAFKA_PROXIED=127.0.0.1:19392,127.0.0.1:19393,127.0.0.1:19394"
            ;;
    esac
}

# How many brokers a broker names in its answer to a Metadata request (version 1, no topics).
kafka_brokers_seen() {
    local answer
    {
        exec 3<>"/dev/tcp/127.0.0.1/$1" &&
            printf '\0\0\0\x12\0\x03\0\x01\0\0\0\x01\0\x04dev!\0\0\0\0' >&3 &&
            answer=$(timeout 2 head -c 12 <&3 | od -An -tu1 -j11)
    } 2>/dev/null || return 1
    exec 3>&-
    echo "${answer//[^0-9]/}"
}

# A broker is ready once it answers, and knows as many brokers as run.
kafka_ready() {
    local unit seen live=0
    case $1 in
        kafka-controller) port_taken "$(kafka_port "$1")" && return ;;
        kafka-one) live=1 ;;
        *)
            for unit in "${kafka_brokers[@]}"; do
                ! running "$unit" || paused "$unit" || live=$((live + 1))
            done
            ;;
    esac
    seen=$(kafka_brokers_seen "$(kafka_port "$1")") && [ "${seen:-0}" -ge "$live" ]
}

kafka_config() {
    local port roles id controller listeners advertised copies=3 secure=
    port=$(kafka_port "$1")
    case $1 in
        kafka-controller)
            roles=controller id=100
            listeners=CONTROLLER://127.0.0.1:$port
            controller=100@127.0.0.1:$port
            ;;
        kafka-one)
            roles=broker,controller id=1 copies=1
            secure=,SECURE://127.0.0.1:19193
            listeners=DIRECT://127.0.0.1:$port,CONTROLLER://127.0.0.1:19191$secure
            advertised=DIRECT://127.0.0.1:$port$secure
            controller=1@127.0.0.1:19191
            ;;
        *)
            roles=broker id=${1#kafka-}
            listeners=DIRECT://127.0.0.1:$port,PROXIED://127.0.0.1:$((port + 200))
            advertised=DIRECT://127.0.0.1:$port,PROXIED://127.0.0.1:$((port + 300))
            controller=100@127.0.0.1:19091
            ;;
    esac
    cat <<CONF
process.roles=$roles
node.id=$id
controller.quorum.voters=$controller
controller.listener.names=CONTROLLER
listeners=$listeners
listener.security.protocol.map=CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,SECURE:SASL_SSL
log.dirs=$state/$1/data
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
# A broker that is gone is noticed within 6 s.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
CONF
    [[ $roles == controller ]] || cat <<CONF
advertised.listeners=$advertised
inter.broker.listener.name=DIRECT
# Only the program that is tested makes topics.
auto.create.topics.enable=false
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=6
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=6
group.initial.rebalance.delay.ms=0
CONF
    [ -z "$secure" ] || kafka_logins
}

# What the listener that speaks TLS and wants a login needs. SCRAM's passwords are in the data,
# where `run` puts them.
kafka_logins() {
    local login=org.apache.kafka.common.security
    cat <<CONF
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=$tls_server
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=$login.plain.PlainLoginModule required \\
  user_alice="$(cat "$state/kafka-one/password")";
listener.name.secure.scram-sha-256.sasl.jaas.config=$login.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
CONF
}

kafka_start() {
    local folder=$state/$1 heap=256m cluster=dHJpcGxpbmUtY2x1c3Rlcg
    mkdir -p "$folder"
    case $1 in
        kafka-controller) heap=128m ;;
        kafka-one)
            cluster=dHJpcGxpbmUta2Fma2Etb25l
            # As old as the data, which knows it.
            [ -f "$folder/password" ] || { rm -rf "$folder/data" && openssl rand -hex 16 >"$folder/password"; }
            ;;
    esac
    kafka_config "$1" >"$folder/server.properties"
    launch "$1" "$here/services.d/kafka/run" "$folder/server.properties" "$kafka_jars" "$cluster" "$heap"
}

# One of Kafka's own tools: `kafka_tool topics|consumer-groups|CLASS ARGUMENT...`.
kafka_tool() {
    local class=$1
    shift
    case $class in
        topics) class=org.apache.kafka.tools.TopicCommand ;;
        consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    esac
    java -Dlevel=ERROR "-Dlog4j2.configurationFile=$here/services.d/kafka/log4j2.properties" \
        -cp "$kafka_jars/*" "$class" "$@"
}
