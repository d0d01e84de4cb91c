"""Who waits for whom, as the manifests say it: no circle, and the order that was observed at the
original fits."""

import base64
import unittest
from graphlib import TopologicalSorter

from common import OVERLAYS, overlay, pods

# As the original was seen to start; the names are those of the manifests. ZooKeeper, which came
# before the brokers, is gone: KRaft brokers wait for nobody. The admin node is not in what was
# seen; it makes the topics, so it is before those that wait for them.
OBSERVED = """alertmanager redis mysql kafka-broker admin server evaluator notifier collector
prometheus""".split()

# What must be waited for at least.
WANTED = {
    "collector": {"kafka-broker"},
    "evaluator": {"kafka-broker"},
    "notifier": {"kafka-broker"},
    "admin": {"kafka-broker"},
    "server": {"mysql"},
    "prometheus": {"collector", "server"},
}


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def owners(objects):
    """For each Service, the names of those whose pods it leads to."""
    found = {}
    for service in objects:
        if service["kind"] != "Service":
            continue
        # The label of one pod of a StatefulSet stands for the StatefulSet.
        selector = dict(service["spec"]["selector"])
        pod = selector.pop("statefulset.kubernetes.io/pod-name", None)
        found[service["metadata"]["name"]] = {
            made["metadata"]["name"]
            for made, _ in pods(objects)
            if matches(selector, made["spec"]["template"]["metadata"]["labels"])
            and (pod is None or pod.startswith(made["metadata"]["name"] + "-"))
        }
    return found


def secret_address(objects, container):
    """The address in the file that holds the URL of MySQL: arguments can be read by anybody."""
    files = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
    folder, key = files["TRIPLINE__MYSQL__URL_FILE"].rsplit("/", 1)
    assert folder in [mount["mountPath"] for mount in container["volumeMounts"]], folder
    for secret in objects:
        if secret["kind"] == "Secret":
            url = base64.b64decode(secret["data"][key]).decode()
            return url.rsplit("@", 1)[1].split("/")[0]
    # Nobody's but the operator's; docs/deploy.md has it so.
    return "mysql-container:3306"


def waits(objects):
    """Who waits for whom, from the arguments of `tripline wait`; topics are the admin's."""
    to = owners(objects)
    found = {}
    for made, spec in pods(objects):
        name = made["metadata"]["name"]
        found[name] = set()
        for container in spec.get("initContainers", []):
            args = iter(container["args"])
            assert next(args) == "wait", f"{name}: expected `wait`, found {container['args']}"
            for arg in args:
                if arg == "--topics":
                    found[name] |= {"admin"}
                    continue
                assert arg in ("--tcp", "--kafka", "--mysql"), f"{name}: unknown {arg}"
                value = secret_address(objects, container) if arg == "--mysql" else next(args)
                for address in value.split(","):
                    host, port = address.rsplit(":", 1)
                    assert host in to, f"{name} waits for {host}, which is no Service"
                    assert to[host], f"{name} waits for {host}, which leads to no pod"
                    service = next(
                        o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == host
                    )
                    ports = [entry["port"] for entry in service["spec"]["ports"]]
                    assert int(port) in ports, f"{name} waits for {address}, whose ports are {ports}"
                    found[name] |= to[host]
    return found


class Waits(unittest.TestCase):
    def test_nobody_waits_in_a_circle(self):
        for name in OVERLAYS:
            with self.subTest(name):
                found = waits(overlay(name))
                order = list(TopologicalSorter(found).static_order())
                print(f"{name}: one order that fits: {' '.join(order)}")

    def test_the_observed_order_satisfies_every_wait(self):
        for name in ("minikube", "production"):
            with self.subTest(name):
                for waiting, needed in waits(overlay(name)).items():
                    for one in needed:
                        self.assertIn(one, OBSERVED)
                        self.assertLess(
                            OBSERVED.index(one),
                            OBSERVED.index(waiting),
                            f"{waiting} waits for {one}, which was seen to start later",
                        )

    def test_all_wait_for_what_they_need(self):
        for name in ("minikube", "production"):
            with self.subTest(name):
                found = waits(overlay(name))
                for waiting, needed in WANTED.items():
                    self.assertLessEqual(needed, found[waiting], waiting)
                self.assertEqual(found["kafka-broker"], set(), "brokers wait for nobody")
                kafka = [
                    container["args"]
                    for made, spec in pods(overlay(name))
                    for container in spec.get("initContainers", [])
                    if "--kafka" in container["args"]
                ]
                for args in kafka:
                    brokers = args[args.index("--kafka") + 1].split(",")
                    self.assertEqual(len(brokers), 3, "any one of all brokers is enough")

    def test_services_are_the_originals(self):
        expected = {
            "grpc-server-service": {50051: 30051, 9999: None},
            "data-collector-service": {9999: None},
            "kafka-broker-1-service": {9092: None},
            "kafka-broker-2-service": {9092: None},
            "kafka-broker-3-service": {9092: None},
            "mysql-container": {3306: None},
            "redis": {6379: None},
            "prometheus-service": {9090: 30120},
            "alert-manager-service": {9093: None},
        }
        objects = overlay("minikube")
        found = {
            service["metadata"]["name"]: {
                entry["port"]: entry.get("nodePort") for entry in service["spec"]["ports"]
            }
            for service in objects
            if service["kind"] == "Service"
        }
        for name, ports in expected.items():
            self.assertEqual(found.get(name), ports, name)
        # None for the evaluator (the original's alert system), the notifier and the admin node.
        for silent in ("evaluator", "notifier", "admin"):
            self.assertFalse([name for name, to in owners(objects).items() if silent in to], silent)

    def test_volumes_are_bound_by_name(self):
        objects = overlay("minikube")
        volumes = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "PersistentVolume"}
        claims = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "PersistentVolumeClaim"}
        for claim, size in (("mysql-data", "5Gi"), ("prometheus-data", "10Gi")):
            spec = claims[claim]
            self.assertEqual(spec["resources"]["requests"]["storage"], size)
            volume = volumes[spec["volumeName"]]
            self.assertEqual(volume["capacity"]["storage"], size)
            self.assertEqual(volume["claimRef"]["name"], claim)
        made = {f"data-kafka-broker-{number}" for number in (1, 2, 3)}
        self.assertLessEqual(made, {volume["claimRef"]["name"] for volume in volumes.values()})


if __name__ == "__main__":
    unittest.main(verbosity=2)
