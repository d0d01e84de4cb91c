"""What the tests of deploy/ share: manifests, processes, waiting."""

import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = Path(os.environ.get("TRIPLINE_DEPLOY_TOOLS", ROOT / ".dev/deploy/bin"))
OVERLAYS = ["fused", "minikube", "production"]
PATIENCE_S = 60


def kustomize(folder):
    """The objects of a kustomization."""
    tool = shutil.which("kustomize", path=f"{TOOLS}:{os.environ['PATH']}")
    if tool is None:
        sys.exit("kustomize was not found: run dev/check-deploy, which installs it")
    built = subprocess.run([tool, "build", folder], capture_output=True, text=True)
    if built.returncode != 0:
        raise AssertionError(f"{folder}: {built.stderr}")
    return [found for found in yaml.safe_load_all(built.stdout) if found]


@functools.cache
def overlay(name):
    """The objects of an overlay, which nobody changes."""
    return kustomize(DEPLOY / "k8s/overlays" / name)


def pods(objects):
    """Each object that makes pods, with its pod's spec."""
    for made in objects:
        if made["kind"] in ("Deployment", "StatefulSet"):
            yield made, made["spec"]["template"]["spec"]


def until(probe, what, patience_s=PATIENCE_S):
    """The first answer of a probe that is something."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {patience_s} s in vain for {what}")


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(url, timeout_s=10):
    """The body of a page; None while nobody answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.read().decode()
    except OSError:
        return None


class Process:
    """A process whose output is in a file, ended with the test."""

    def __init__(self, test, name, folder, *command, env=None, cwd=None):
        self.log = Path(folder) / f"{name}.log"
        self.name = name
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
                cwd=cwd,
            )
        test.addCleanup(self.end)

    def end(self):
        """Asks it to end, and kills it if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def until(self, probe, what, patience_s=PATIENCE_S):
        """Waits for a probe, and fails with the log if the process ends before."""

        def alive():
            found = probe()
            if not found and self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended: {self.log.read_text()[-3000:]}")
            return found

        try:
            return until(alive, what, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.name}: {self.log.read_text()[-3000:]}") from None


def text_field(number, text):
    """A string of a protobuf message."""
    data = text.encode()
    return bytes([number << 3 | 2, len(data)]) + data


def legacy(channel, method, message, user):
    """Calls the original's API with an encoded message; returns the encoded answer."""
    call = channel.unary_unary(f"/usermanagement.UserService/{method}")
    metadata = [("user_id", user), ("request_id", str(uuid.uuid4()))]
    return call(message, metadata=metadata, timeout=PATIENCE_S)


def succeeded(answer):
    """Whether an answer's `success`, its first field, is set."""
    return answer[:2] == b"\x08\x01"


def plain_text(page):
    """A page in Prometheus's older format, for promtool, which reads no OpenMetrics."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    lines = []
    for line in page.splitlines():
        if found := re.match(r"# (TYPE|HELP) (\S+) (.*)", line):
            what, name, rest = found.groups()
            ending = {"counter": "_total", "info": "_info"}.get(kinds[name], "")
            if kinds[name] == "info" and what == "TYPE":
                rest = "gauge"
            line = f"# {what} {name}{ending} {rest}"
        if line != "# EOF":
            lines.append(line)
    return "\n".join(lines) + "\n"


def wanted(name, variable):
    """A service's address from the environment; None where there is none and none is required."""
    value = os.environ.get(variable)
    if not value and name in os.environ.get("TRIPLINE_TEST_REQUIRE", "").split(","):
        raise AssertionError(f"{name} is required, and {variable} is not set")
    return value


def database(test, server):
    """Makes a database for one test; returns its URL."""
    name = f"tripline_{uuid.uuid4().hex[:12]}"
    parts = urllib.parse.urlsplit(server)
    client = ["mariadb", f"--host={parts.hostname}", f"--port={parts.port}", f"--user={parts.username}",
              f"--password={parts.password}", "--execute"]
    subprocess.run([*client, f"CREATE DATABASE {name} CHARACTER SET utf8mb4"], check=True)
    test.addCleanup(subprocess.run, [*client, f"DROP DATABASE {name}"], check=True)
    return f"{server.rstrip('/')}/{name}"


def knows(binary, *words):
    """Whether a program has a command, and flags of it."""
    said = subprocess.run([binary, words[0], "--help"], capture_output=True, text=True)
    return said.returncode == 0 and all(word in said.stdout for word in words[1:])
