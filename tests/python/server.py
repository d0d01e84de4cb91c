"""A `tripline serve` of the test's own: started on free ports, killed and started again."""

import json
import os
import re
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

READY_S = 60
END_S = 30


class Server:
    """The product over a data folder, which outlives it."""

    def __init__(self, binary, folder, *options, grpc="127.0.0.1:0"):
        self.binary = str(binary)
        arguments = [self.binary, "serve", "--data-dir", str(Path(folder) / "data")]
        arguments += ["--grpc", grpc, "--http", "127.0.0.1:0", "--mailer", "files"]
        if "--market" not in options:
            arguments += ["--market", "none"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TRIPLINE")
        }
        # Not where the project's files are: a tripline.toml there would be read.
        self.process = subprocess.Popen(
            [*arguments, *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log, self.grpc, self.http = [], None, None
        self.said = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.said.wait(READY_S) or self.grpc is None:
            self.kill()
            raise AssertionError("the server was not ready:\n" + "".join(self.log))

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            ready = re.fullmatch(r"ready grpc=(\S+) http=(\S+)\n", line)
            if ready:
                self.grpc, self.http = ready.groups()
                self.said.set()
        self.said.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """SIGKILL: as a crash would end it."""
        self.process.kill()
        self._ended()

    def stop(self):
        """SIGTERM: a graceful end, which must succeed."""
        self.process.terminate()
        status = self._ended()
        if status != 0:
            raise AssertionError(f"the server ended with {status}:\n" + "".join(self.log))

    def _ended(self):
        status = self.process.wait(END_S)
        self.reader.join(END_S)
        self.process.stderr.close()
        return status

    def page(self):
        """The text of /metrics."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://{self.http}/metrics", timeout=10
        ) as answer:
            return answer.read().decode()

    def series(self):
        """Each sample of /metrics: its name and labels, without the host, to its value."""
        samples = {}
        for name, labels, value in re.findall(
            r"^(\w+)(?:\{(.*)\})? (\S+)$", self.page(), re.MULTILINE
        ):
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            samples[(name, frozenset(pairs.items()))] = float(value)
        return samples

    def command(self, *arguments, email, password):
        """What a client command of the product says, as JSON lines, for an account."""
        with tempfile.TemporaryDirectory() as home:
            secret = Path(home) / "password"
            secret.write_text(password)
            environment = {"HOME": home, "TRIPLINE_SERVER": f"http://{self.grpc}"}

            def run(*words):
                ended = subprocess.run(
                    [self.binary, *words, "--json"],
                    cwd=home,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=END_S,
                    check=False,
                )
                if ended.returncode != 0:
                    raise AssertionError(f"{words}: {ended.stderr}")
                return [json.loads(line) for line in ended.stdout.splitlines()]

            if arguments[0] == "register":
                return run("register", email, "--password-file", str(secret))
            run("login", email, "--password-file", str(secret))
            return run(*arguments)
