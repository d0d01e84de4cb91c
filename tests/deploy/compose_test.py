"""deploy/compose.yaml, as the library reads it that docker compose reads it with."""

import json
import os
import re
import shutil
import subprocess
import sys
import unittest
from graphlib import TopologicalSorter
from pathlib import Path

import yaml

from common import DEPLOY, ROOT, TOOLS

HERE = Path(__file__).parent / "compose"
FILE = DEPLOY / "compose.yaml"
SPLIT = {"grpc-server-service", "data-collector-service", "evaluator", "notifier", "admin"}
BROKERS = {f"kafka-broker-{number}-service" for number in (1, 2, 3)}


def project():
    """The project of all profiles."""
    tool = TOOLS / "compose-config"
    if not tool.exists():
        if shutil.which("go") is None:
            sys.exit("go was not found: it builds the reader of compose files")
        TOOLS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", tool.absolute(), "."], cwd=HERE, check=True)
    read = subprocess.run([tool, FILE], capture_output=True, text=True)
    if read.returncode != 0:
        raise AssertionError(f"{FILE}: {read.stderr}")
    return json.loads(read.stdout)


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.services = project()["services"]

    def test_all_is_there(self):
        others = {"mysql-container", "redis", "mailpit", "prometheus-service"}
        others |= {"alert-manager-service", "grafana", "fused"}
        self.assertEqual(set(self.services), SPLIT | BROKERS | others)
        self.assertEqual(self.services["fused"]["profiles"], ["fused"])
        self.assertFalse([n for n in SPLIT if self.services[n].get("profiles")])

    def test_everything_has_a_health_check_and_starts_after_what_it_needs(self):
        graph = {}
        for name, service in self.services.items():
            self.assertTrue(service["healthcheck"]["test"], name)
            needs = service.get("depends_on") or {}
            for needed, how in needs.items():
                self.assertEqual(how["condition"], "service_healthy", f"{name} on {needed}")
            graph[name] = set(needs)
        print("one order that fits:", " ".join(TopologicalSorter(graph).static_order()))
        for name in SPLIT:
            self.assertLessEqual(BROKERS | {"mysql-container"}, graph[name], name)
        for broker in BROKERS:
            self.assertEqual(graph[broker], set(), "brokers wait for nobody")
        self.assertLessEqual({"grpc-server-service", "data-collector-service"}, graph["prometheus-service"])

    def test_nothing_has_more_rights_than_it_needs(self):
        for name, service in self.services.items():
            self.assertTrue(service["read_only"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertNotEqual(service.get("user", "1"), "0", name)
            for port in service.get("ports", []):
                self.assertEqual(port["host_ip"], "127.0.0.1", name)

    def test_images_are_pinned_and_the_same_as_in_kubernetes(self):
        listed = yaml.safe_load((DEPLOY / "k8s/base/images/kustomization.yaml").read_text())["images"]
        known = {f"{image['newName']}:{image['newTag']}" for image in listed} | {"tripline:dev"}
        for name, service in self.services.items():
            self.assertNotIn(":latest", service["image"])
            self.assertIn(service["image"], known, name)

    def test_what_is_mounted_exists(self):
        for name, service in self.services.items():
            for mount in service.get("volumes", []):
                if mount["type"] == "bind":
                    self.assertTrue(os.path.exists(mount["source"]), f"{name}: {mount['source']}")

    def test_settings_are_options(self):
        """Each variable names an option of config/default.toml."""
        table, options = "", set()
        for line in (ROOT / "config/default.toml").read_text().splitlines():
            if found := re.match(r"\[(.+)\]", line):
                table = found[1]
            elif found := re.match(r"(\w+) =", line):
                options.add(f"{table}.{found[1]}")
        names = {"fused"}
        if {"kafka.bootstrap", "mysql.url", "redis.url", "server.fingerprint_key"} <= options:
            names |= SPLIT
        else:
            print("not run: the split services' settings (this Tripline has no MySQL, Kafka or Redis)")
        for name in names:
            for variable in self.services[name].get("environment") or {}:
                option = variable.removeprefix("TRIPLINE__").lower().replace("__", ".")
                self.assertIn(option.removesuffix("_file"), options, f"{name}: {variable}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
