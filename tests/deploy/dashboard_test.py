"""Each query of the dashboard, asked of a real Prometheus that scraped a demo run."""

import json
import os
import subprocess
import tempfile
import threading
import unittest
import urllib.parse
from pathlib import Path

import grpc
import yaml

from common import DEPLOY, Process, fetch, free_port, legacy, plain_text, text_field, until

BINARY = os.environ["TRIPLINE_BINARY"]
# What embedded Tripline does not have: these need Kafka, and rules_test.py sees to their names.
KAFKA = "tripline_kafka_"
SCRAPE_S = 1


def queries():
    board = json.loads((DEPLOY / "grafana/tripline.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "20s")


class Dashboard(unittest.TestCase):
    def test_every_panel_has_data_after_a_demo_run(self):
        with tempfile.TemporaryDirectory() as name:
            self.run_in(Path(name))

    def run_in(self, folder):
        http, api, prometheus = free_port(), free_port(), free_port()
        address = f"127.0.0.1:{http}"
        # At real prices' pace of about a month a second, so that it is under way all the time.
        demo = Process(
            self, "demo", folder, BINARY, "demo", "--http", address, "--data-dir", folder / "data",
            "--speed", "2000000", "--grpc", f"127.0.0.1:{api}",
        )
        demo.until(lambda: fetch(f"http://{address}/healthz"), "the demo")
        page = fetch(f"http://{address}/metrics")
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
                    "rule_files": [str(DEPLOY / "prometheus/rules/*.yml")],
                    "scrape_configs": [
                        {
                            "job_name": "tripline",
                            "static_configs": [
                                {"targets": [address], "labels": {"node": "all", "pod": "demo"}}
                            ],
                        }
                    ],
                }
            )
        )
        server = Process(
            self, "prometheus", folder, "prometheus", f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{prometheus}",
        )
        base = f"http://127.0.0.1:{prometheus}"
        server.until(lambda: fetch(f"{base}/-/ready"), "Prometheus")

        def ask(expression):
            text = fetch(f"{base}/api/v1/query?query={urllib.parse.quote(expression)}")
            self.assertIsNotNone(text, f"refused: {expression}")
            return [
                sample
                for sample in json.loads(text)["data"]["result"]
                if sample["value"][1] != "NaN"
            ]

        self.call(api)
        # Mails have gone out, and rates have enough scrapes.
        until(lambda: ask("sum(increase(tripline_deliveries_total[20s])) > 0"), "mails", 120)
        asked, later = 0, []
        for title, expression in queries():
            if KAFKA in expression:
                later.append(title)
                continue
            lacking = [
                name
                for name in ("tripline_ready", "tripline_partitions_owned")
                if name in expression and name not in page
            ]
            if lacking:
                print(f"not run: {title} (this program has no {lacking[0]})")
                continue
            with self.subTest(panel=title, query=expression):
                until(lambda e=expression: ask(e), f"data for {title}: {expression}", 30)
                asked += 1
        print(f"{asked} queries have data; with Kafka only: {', '.join(sorted(set(later)))}")

    def call(self, port):
        """Asks the API again and again, since nobody else does in a demo."""
        ended = threading.Event()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")

        def ask():
            while not ended.wait(0.2):
                legacy(channel, "ShowDetails", text_field(1, "ann@example.com"), "ann@example.com")

        asking = threading.Thread(target=ask)
        asking.start()
        for step in (channel.close, asking.join, ended.set):
            self.addCleanup(step)


class Page(unittest.TestCase):
    def test_promtool_has_no_complaint_about_the_page_of_metrics(self):
        """promtool reads no OpenMetrics, so it gets the same page in the older format."""
        with tempfile.TemporaryDirectory() as name:
            http = free_port()
            serve = Process(
                self, "serve", name, BINARY, "serve", "--data-dir", f"{name}/data", "--market", "none",
                "--grpc", "127.0.0.1:0", "--http", f"127.0.0.1:{http}",
            )
            page = serve.until(lambda: fetch(f"http://127.0.0.1:{http}/metrics"), "the page")
            serve.end()
        said = subprocess.run(
            ["promtool", "check", "metrics"], input=plain_text(page), capture_output=True, text=True
        )
        self.assertEqual((said.returncode, said.stdout + said.stderr), (0, ""))
        series = [line for line in page.splitlines() if not line.startswith("#")]
        print(f"{len(series)} series in a new process; what grows is bounded: docs/operations.md")
        self.assertLess(len(series), 500)


if __name__ == "__main__":
    unittest.main(verbosity=2)
