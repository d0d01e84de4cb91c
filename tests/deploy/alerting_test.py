"""From what goes wrong to the operator's inbox: Tripline, Prometheus and Alertmanager run, each of
the original's four conditions is caused for real, and the mail of each arrives over STARTTLS with a
password. The rules are those of deploy/, with their windows shortened."""

import json
import os
import re
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request
from email import message_from_bytes, policy
from pathlib import Path

import grpc
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from common import (
    DEPLOY,
    Process,
    database,
    fetch,
    free_port,
    knows,
    legacy,
    succeeded,
    text_field,
    until,
    wanted,
)

BINARY = os.environ["TRIPLINE_BINARY"]
USER, PASSWORD = "tripline-alerts@example.com", "a secret of the alerts"
ORIGINAL = [
    "LoginFailuresSpike",
    "DrasticDropInMonitoredTickers",
    "HighResponseTimePerRequest",
    "HighProductionLatency",
]
# Only the length of the windows is other than in the rules that ship.
WINDOWS = {"[24h]": "[30s]", "[10m]": "[30s]", "[5m]": "[30s]"}
PATIENCE_S = 120


class Inbox:
    """A mail server that takes nothing without STARTTLS and the password."""

    def __init__(self, folder):
        self.mails = []
        self.certificate = folder / "mail.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "mail.key", "-out", self.certificate],
            check=True, capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "mail.key")
        self.port = free_port()
        self.controller = Controller(
            self, hostname="127.0.0.1", port=self.port, tls_context=context, require_starttls=True,
            auth_required=True, authenticator=self.authenticate,
            # Its prompts are not those that Alertmanager knows.
            auth_exclude_mechanism=["LOGIN"],
        )
        self.controller.start()

    def authenticate(self, server, session, envelope, mechanism, data):
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known and session.ssl is not None)

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"

    def about(self, name):
        """The mails whose subject names an alert that fires."""
        return [mail for mail in self.mails if name in mail["Subject"] and "FIRING" in mail["Subject"]]


def shortened(folder):
    """The rule files that ship, with shorter windows."""
    for path in (DEPLOY / "prometheus/rules").glob("*.yml"):
        text = path.read_text()
        for window, shorter in WINDOWS.items():
            text = text.replace(window, shorter)
        text = re.sub(r"for: \d+[mh]", "for: 5s", text)
        (folder / path.name).write_text(text)


class Alerting(unittest.TestCase):
    def setUp(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)
        self.inbox = Inbox(self.folder)
        self.addCleanup(self.inbox.controller.stop)

    def start(self, *options, data=None):
        """Starts Tripline and those that watch it; returns a channel to the API."""
        grpc_port, http = free_port(), free_port()
        tripline = Process(
            self, "tripline", self.folder, BINARY, "serve", "--data-dir", data or self.folder / "data",
            "--grpc", f"127.0.0.1:{grpc_port}", "--http", f"127.0.0.1:{http}", "--mailer", "files",
            "--market", "simulated", "--set", "collect.report.report_s=1",
            "--set", "collect.poll.reread_ms=500",
            # On a busy machine an append may miss its turn, and is late rather than failed.
            "--set", "broker.busy_timeout_ms=60000", *options,
        )
        tripline.until(lambda: fetch(f"http://127.0.0.1:{http}/readyz"), "Tripline")
        self.metrics = f"http://127.0.0.1:{http}/metrics"
        self.watch(http)
        channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
        self.addCleanup(channel.close)
        return channel

    def watch(self, http):
        config = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
        config["global"] |= {
            "smtp_smarthost": f"localhost:{self.inbox.port}",
            "smtp_auth_username": USER,
            "smtp_auth_password_file": str(self.folder / "smtp-password"),
        }
        (self.folder / "smtp-password").write_text(PASSWORD)
        for receiver in config["receivers"]:
            for mail in receiver["email_configs"]:
                mail["tls_config"] = {"ca_file": str(self.inbox.certificate)}
        for route in [config["route"], *config["route"]["routes"]]:
            route["group_wait"] = "1s"
        (self.folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
        alertmanager = free_port()
        process = Process(
            self, "alertmanager", self.folder, "prometheus-alertmanager",
            f"--config.file={self.folder}/alertmanager.yml", f"--storage.path={self.folder}/alertmanager",
            f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=",
        )
        process.until(lambda: fetch(f"http://127.0.0.1:{alertmanager}/-/ready"), "Alertmanager")

        rules = self.folder / "rules"
        rules.mkdir()
        shortened(rules)
        target = {"targets": [f"127.0.0.1:{http}"], "labels": {"node": "all"}}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [f"{rules}/*.yml"],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
            },
            "scrape_configs": [{"job_name": "tripline", "static_configs": [target]}],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        prometheus = free_port()
        process = Process(
            self, "prometheus", self.folder, "prometheus", f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/tsdb", f"--web.listen-address=127.0.0.1:{prometheus}",
        )
        self.prometheus = f"http://127.0.0.1:{prometheus}"
        process.until(lambda: fetch(f"{self.prometheus}/-/ready"), "Prometheus")

    def scraped(self, expression):
        """Waits until Prometheus has something for an expression."""
        url = f"{self.prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"
        until(lambda: json.loads(fetch(url) or "{}").get("data", {}).get("result"), expression, PATIENCE_S)

    def arrives(self, name):
        mail = until(lambda: self.inbox.about(name), f"the mail of {name}", PATIENCE_S)[0]
        body = mail.get_body(("plain",)).get_content()
        self.assertEqual(mail["From"], USER)
        self.assertIn(f"docs/operations.md#{name.lower()}", body)
        print(f"{name}: {mail['Subject']}")

    def register(self, channel, user, ticker):
        message = text_field(1, user) + text_field(2, "a password") + text_field(3, ticker)
        # Floats 4 and 5 are -1: no threshold.
        message += b"\x25\x00\x00\x80\xbf\x2d\x00\x00\x80\xbf"
        self.assertTrue(succeeded(legacy(channel, "RegisterUser", message, user)), user)

    def bad_logins(self, channel, user):
        # Read before, so that the counter's rise is seen.
        self.scraped("login_failures_total == 0")
        message = text_field(1, user) + text_field(2, "not the password")
        for _ in range(51):
            self.assertFalse(succeeded(legacy(channel, "LoginUser", message, user)))
        self.scraped("login_failures_total == 51")

    def fewer_tickers(self, channel, users):
        self.scraped(f"monitored_tickers >= {len(users)}")
        for user in users:
            answer = legacy(channel, "DeleteUser", text_field(1, user), user)
            self.assertTrue(succeeded(answer), user)

    def slow_request(self, channel, user, lock):
        """The store is locked by another program for longer than 2 s, while a command waits."""
        self.scraped('response_time_seconds_count{function="UpdateUser"} == 0')
        begun = time.monotonic()
        with lock:
            timer = threading.Timer(3, lock.release)
            lock.acquire()
            timer.start()
            message = text_field(1, user) + text_field(2, "SLOW")
            self.assertTrue(succeeded(legacy(channel, "UpdateUser", message, user)))
        self.assertGreater(time.monotonic() - begun, 2)

    def test_each_of_the_originals_alerts_reaches_the_inbox(self):
        channel = self.start()
        data = self.folder / "data"
        users = [f"user-{number}@example.com" for number in range(12)]
        stays = "stays@example.com"
        for number, user in enumerate([*users, stays]):
            self.register(channel, user, f"T{number}")
        self.scraped("monitored_tickers == 13")

        self.bad_logins(channel, stays)
        self.fewer_tickers(channel, users)
        self.slow_request(channel, stays, Lock(data / "store.db"))
        slow = SlowLog(Lock(data / "log.db"))
        self.addCleanup(slow.end)
        for name in ORIGINAL:
            self.arrives(name)

    def test_a_slow_kafka_reaches_the_inbox(self):
        """The broker answers after 3 s, through the proxy."""
        kafka = wanted("kafka", "TRIPLINE_TEST_KAFKA_PROXIED")
        mysql = wanted("mysql", "TRIPLINE_TEST_MYSQL")
        proxy = wanted("toxiproxy", "TRIPLINE_TEST_TOXIPROXY")
        if not (kafka and mysql and proxy):
            self.skipTest("needs Kafka behind Toxiproxy, and MySQL: dev/services up")
        if not knows(BINARY, "serve", "--kafka", "--mysql"):
            self.skipTest("this program has no serve --kafka")
        channel = self.start(
            "--kafka", kafka, "--mysql", database(self, mysql), "--set", "server.fingerprint_key=" + "0f" * 32,
            "--set", f"topics.prefix=alerting-{os.getpid()}-", "--set", f"topics.group=alerting-{os.getpid()}",
        )
        self.register(channel, "ann@example.com", "SLOW")
        self.scraped("production_latency_count > 0")
        names = [name for name in json.loads(fetch(f"{proxy}/proxies")) if name.startswith("kafka-")]

        def toxic(name, method, path, body=None):
            request = urllib.request.Request(f"{proxy}/proxies/{name}/toxics{path}", method=method, data=body)
            urllib.request.urlopen(request, timeout=10).close()

        slow = {"name": "alerting", "type": "latency", "attributes": {"latency": 3000}}
        for name in names:
            toxic(name, "POST", "", json.dumps(slow).encode())
            self.addCleanup(toxic, name, "DELETE", "/alerting")
        self.arrives("HighProductionLatency")


class Lock:
    """An SQLite file that another program, this one, keeps locked."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)

    def acquire(self):
        self.connection.execute("BEGIN IMMEDIATE")

    def release(self):
        self.connection.execute("ROLLBACK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        until(lambda: not self.connection.in_transaction, "the lock's end")
        self.connection.close()


class SlowLog:
    """Keeps the log locked for 3.5 s again and again. A round of prices comes each second, so half
    of the appends at least begin soon after the lock and take longer than 2 s."""

    def __init__(self, lock):
        self.lock, self.ended = lock, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.is_set():
            self.lock.acquire()
            self.ended.wait(3.5)
            self.lock.release()
            # What waits gets its turn.
            self.ended.wait(0.5)
        self.lock.connection.close()

    def end(self):
        self.ended.set()
        self.thread.join()


if __name__ == "__main__":
    unittest.main(verbosity=2)
