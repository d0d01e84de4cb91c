"""Each container's command, settings and mounts as the manifests say them, on this machine: a wrong
flag or a wrong option in a manifest fails here."""

import base64
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

import grpc
import yaml

from common import DEPLOY, OVERLAYS, Process, database, fetch, free_port, knows, overlay, pods, wanted

BINARY = os.environ["TRIPLINE_BINARY"]
# Stand for the Secret that production brings; the keys are those of docs/deploy.md.
SECRETS = {
    "mysql-url": "mysql://tripline:secret@mysql-container:3306/tripline",
    "mysql-password": "secret",
    "mysql-root-password": "secret",
    "redis-url": "redis://:secret@redis:6379",
    "redis-conf": "requirepass secret",
    "mailer": "smtp://user:secret@mail.example.com:587",
    "fingerprint-key": "0f" * 32,
    "alert-smtp-password": "secret",
    "grafana-password": "secret",
}


def ours(container):
    """Whether a container runs Tripline."""
    return container["image"].split(":")[0].endswith("tripline")


def secrets(objects):
    """The overlay's own Secret, else what stands for it."""
    for found in objects:
        if found["kind"] == "Secret":
            return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}
    return SECRETS


def write(folder, sources, items):
    folder.mkdir(parents=True, exist_ok=True)
    for item in items or [{"key": key, "path": key} for key in sources]:
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sources[item["key"]])


def mounted(objects, spec, container, folder):
    """Makes what a container has mounted, below a folder; returns where each path is."""
    maps = {o["metadata"]["name"]: o.get("data", {}) for o in objects if o["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    found = {}
    for mount in container.get("volumeMounts", []):
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        volume = volumes.get(mount["name"], {})
        for source in volume.get("projected", {}).get("sources", [volume]):
            if "configMap" in source:
                write(place, maps[source["configMap"]["name"]], source["configMap"].get("items"))
            if "secret" in source:
                write(place, secrets(objects), source["secret"].get("items"))
        found[mount["mountPath"]] = str(place)
    return found


def moved(text, places):
    """A text with the paths of a container in place of those of its image."""
    paths = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
    # At its beginning only: what is moved already holds such paths, too.
    return re.sub(rf"(?<![\w/.-])({paths})\b", lambda found: places[found[1]], text) if paths else text


def command(objects, spec, container, folder):
    """A container's arguments and environment, with its files below a folder."""
    places = mounted(objects, spec, container, folder)
    for file in folder.rglob("*.toml"):
        file.write_text(moved(file.read_text(), places))
    known = secrets(objects)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    for entry in container.get("env", []):
        value = entry.get("value")
        if value is None:
            value = known[entry["valueFrom"]["secretKeyRef"]["key"]]
        environment[entry["name"]] = moved(value, places)
    args = [moved(arg, places) for arg in container.get("args", [])]
    for name, value in environment.items():
        args = [arg.replace(f"$({name})", value) for arg in args]
    return args, environment


class Settings(unittest.TestCase):
    def setUp(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)

    def test_every_node_takes_its_settings(self):
        options = (DEPLOY.parent / "config/default.toml").read_text()
        checked = 0
        for name in OVERLAYS:
            if name != "fused" and not all(table in options for table in ("[kafka]", "[mysql]", "[redis]")):
                print(f"not run: settings of {name} (this Tripline has no MySQL, Kafka or Redis)")
                continue
            objects = overlay(name)
            for made, spec in pods(objects):
                for container in filter(ours, spec["containers"]):
                    with self.subTest(overlay=name, node=made["metadata"]["name"]):
                        folder = self.folder / name / made["metadata"]["name"]
                        args, environment = command(objects, spec, container, folder)
                        self.assertEqual(args[0], "serve")
                        config, roles = args[args.index("--config") + 1], args[args.index("--roles") + 1]
                        said = subprocess.run(
                            [BINARY, "config", "check", "--config", config, "--set", f"graph.roles={roles}"],
                            env=environment, capture_output=True, text=True, cwd=self.folder,
                        )
                        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
                        checked += 1
        print(f"{checked} nodes take their settings")

    def test_every_wait_is_understood(self):
        if not knows(BINARY, "wait"):
            self.skipTest("this program has no command wait")
        for name in OVERLAYS:
            objects = overlay(name)
            for made, spec in pods(objects):
                for container in spec.get("initContainers", []):
                    with self.subTest(overlay=name, node=made["metadata"]["name"]):
                        args, environment = command(objects, spec, container, self.folder)
                        said = subprocess.run(
                            [BINARY, *args, "--timeout-s", "1"],
                            env=environment, capture_output=True, text=True, cwd=self.folder,
                        )
                        # 1: it was not there; 2 would be a wrong argument.
                        self.assertEqual(said.returncode, 1, said.stderr)

    def test_the_fused_process_runs_and_its_probes_answer(self):
        objects = overlay("fused")
        made, spec = next(pair for pair in pods(objects) if pair[0]["metadata"]["name"] == "tripline")
        container = spec["containers"][0]
        args, environment = command(objects, spec, container, self.folder)
        ports = {"50051": free_port(), "9999": free_port()}
        config = Path(args[args.index("--config") + 1])
        text = config.read_text()
        for port, other in ports.items():
            self.assertIn(f'"0.0.0.0:{port}"', text)
            text = text.replace(f'"0.0.0.0:{port}"', f'"127.0.0.1:{other}"')
        config.write_text(text)
        process = Process(
            self, "fused", self.folder, BINARY, *args, "--market", "none", env=environment, cwd=self.folder
        )
        declared = {entry["name"]: str(entry["containerPort"]) for entry in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if call := container[probe].get("httpGet"):
                url = f"http://127.0.0.1:{ports[declared[call['port']]]}{call['path']}"
                process.until(lambda u=url: fetch(u), url)
            else:
                port = ports[str(container[probe]["grpc"]["port"])]
                channel = grpc.insecure_channel(f"127.0.0.1:{port}")
                self.addCleanup(channel.close)
                check = channel.unary_unary("/grpc.health.v1.Health/Check")

                def serving():
                    try:
                        return check(b"", timeout=5) == b"\x08\x01"
                    except grpc.RpcError:
                        return False

                process.until(serving, "grpc.health.v1")
        # As a drain ends: within the grace that the manifest gives.
        process.process.terminate()
        grace = spec["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertEqual(process.process.wait(grace), 0)


class Split(unittest.TestCase):
    """The split system of the minikube overlay, against real services."""

    def test_every_node_waits_starts_and_is_ready(self):
        kafka, mysql = wanted("kafka", "TRIPLINE_TEST_KAFKA"), wanted("mysql", "TRIPLINE_TEST_MYSQL")
        if not (kafka and mysql):
            self.skipTest("needs Kafka and MySQL: dev/services up")
        if not knows(BINARY, "serve", "--kafka", "--mysql") or not knows(BINARY, "wait"):
            self.skipTest("this program has no serve --kafka --mysql, or no wait")
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        url = database(self, mysql)
        objects = overlay("minikube")
        nodes = {m["metadata"]["name"]: spec for m, spec in pods(objects) if ours(spec["containers"][0])}
        name = f"deploy-{os.getpid()}"
        started = []
        # The admin node makes the topics that others wait for.
        for node in ("admin", "server", "evaluator", "notifier", "collector"):
            spec, folder = nodes[node], Path(made.name) / node
            ports = {"50051": free_port(), "9999": free_port()}

            def local(text):
                """Services by the addresses that they have here."""
                for number, broker in enumerate(kafka.split(","), 1):
                    text = text.replace(f"kafka-broker-{number}-service:9092", broker)
                redis = os.environ.get("TRIPLINE_TEST_REDIS", "redis://127.0.0.1:1")
                text = text.replace("redis://:tripline@redis:6379", redis)
                text = text.replace("mysql://tripline:tripline@mysql-container:3306/tripline", url)
                text = text.replace("smtp://mailpit:1025", "console")
                for port, other in ports.items():
                    text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{other}")
                return text

            def ready(container):
                args, environment = command(objects, spec, container, folder)
                for file in folder.rglob("*"):
                    if file.is_file():
                        file.write_text(local(file.read_text()))
                environment |= {"TRIPLINE__TOPICS__PREFIX": f"{name}-", "TRIPLINE__TOPICS__GROUP": name}
                return [local(arg) for arg in args], environment

            args, environment = ready(spec["initContainers"][0])
            serve, settings = ready(spec["containers"][0])
            subprocess.run([BINARY, *args], env=environment | settings, check=True, timeout=120, cwd=folder)
            process = Process(
                self, node, folder, BINARY, *serve, "--market", "simulated", env=settings, cwd=folder
            )
            probe = f"http://127.0.0.1:{ports['9999']}/readyz"
            process.until(lambda u=probe: fetch(u), f"{node} to be ready")
            started.append(node)
        print(f"ready, as the manifests start them: {' '.join(started)}")


class Others(unittest.TestCase):
    """What runs beside Tripline, where this machine has it: the same arguments and files."""

    def setUp(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)

    def container(self, name, kind):
        objects = overlay("minikube")
        made, spec = next(pair for pair in pods(objects) if pair[0]["metadata"]["name"] == name)
        container = spec["containers"][0]
        self.assertEqual(container["name"], kind)
        args, environment = command(objects, spec, container, self.folder)
        return args, environment, container

    def program(self, name):
        return shutil.which(name) or self.skipTest(f"{name} is not on this machine")

    def test_alertmanager(self):
        program = self.program("prometheus-alertmanager")
        args, environment, container = self.container("alertmanager", "alertmanager")
        config = Path(args[0].split("=")[1])
        config.write_text(config.read_text().replace("/etc/alertmanager", str(config.parent)))
        self.assertTrue((config.parent / "secrets/smtp-password").read_text())
        port = free_port()
        process = Process(
            self, "alertmanager", self.folder, program, *args, f"--web.listen-address=127.0.0.1:{port}",
            env=environment,
        )
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            url = f"http://127.0.0.1:{port}{container[probe]['httpGet']['path']}"
            process.until(lambda u=url: fetch(u), url)

    def test_prometheus(self):
        program = self.program("prometheus")
        args, environment, container = self.container("prometheus", "prometheus")
        config = Path(args[0].split("=")[1])
        plain = yaml.safe_load(config.read_text())
        # Debian's program knows no Kubernetes.
        plain["scrape_configs"][0].pop("kubernetes_sd_configs")
        config.write_text(yaml.safe_dump(plain))
        port = free_port()
        process = Process(
            self, "prometheus", self.folder, program, *args, f"--web.listen-address=127.0.0.1:{port}",
            env=environment,
        )
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            url = f"http://127.0.0.1:{port}{container[probe]['httpGet']['path']}"
            process.until(lambda u=url: fetch(u), url)
        rules = fetch(f"http://127.0.0.1:{port}/api/v1/rules")
        for name in ("DrasticDropInMonitoredTickers", "KafkaUnderMinIsr", "tripline:consumer_lag:sum"):
            self.assertIn(name, rules)

    def test_redis(self):
        program = self.program("redis-server")
        args, environment, container = self.container("redis", "redis")
        port = free_port()
        process = Process(self, "redis", self.folder, program, *args, "--port", str(port), env=environment, cwd=self.folder)
        ask = ["redis-cli", "-p", str(port)]
        self.assertIn("requirepass", Path(args[0]).read_text())

        def said(*words):
            return subprocess.run([*ask, *words], capture_output=True, text=True).stdout

        process.until(lambda: "NOAUTH" in said("ping"), "Redis")
        self.assertIn("PONG", said("-a", secrets(overlay("minikube"))["redis-conf"].split()[1], "ping"))
        probe = container["readinessProbe"]["exec"]["command"]
        probe = [*probe[:-1], probe[-1].replace("redis-cli", f"redis-cli -p {port}")]
        self.assertEqual(subprocess.run(probe).returncode, 0)

    def test_kafka(self):
        """start.sh with the real Kafka, one server alone, both of its parts."""
        jars = next(iter(sorted((DEPLOY.parent / ".dev/tools").glob("kafka-*/kafka_2.13-*.jar"))), None)
        java = self.program("java")
        if jars is None:
            self.skipTest("Kafka is not there: dev/services up kafka-one gets it")
        args, environment, container = self.container("kafka-broker", "kafka")
        home = self.folder / "kafka"
        (home / "bin").mkdir(parents=True)
        classpath = f"{jars.parent}/*"
        for name, main in (("kafka-storage.sh", "kafka.tools.StorageTool"), ("kafka-server-start.sh", "kafka.Kafka")):
            script = home / "bin" / name
            script.write_text(f'#!/bin/sh\nexec "{java}" -Xmx384m -cp "{classpath}" {main} "$@"\n')
            script.chmod(0o755)
        # As the pod is called.
        (home / "bin/hostname").write_text("#!/bin/sh\necho kafka-broker-1\n")
        (home / "bin/hostname").chmod(0o755)
        clients, controller = free_port(), free_port()
        settings = self.folder / "server.properties"
        process = Process(
            self, "kafka", self.folder, "/bin/sh", self.folder / "etc/kafka-config/start.sh",
            env=environment | {
                "PATH": f"{home}/bin:{os.environ['PATH']}",
                "KAFKA_HOME": str(home),
                "SETTINGS": str(settings),
                "SHARED": str(self.folder / "etc/kafka-config/server.properties"),
                "DATA": str(self.folder / "data"),
                "VOTERS": f"1@127.0.0.1:{controller}",
                "LISTENERS": f"CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}",
                "ADVERTISED": f"CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}",
            },
        )

        def up():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", clients)) == 0

        process.until(up, "Kafka", 180)
        self.assertIn("node.id=1\n", settings.read_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
