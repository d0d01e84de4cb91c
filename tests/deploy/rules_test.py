"""What the rules of Prometheus, their tests, the runbooks, the dashboard and the metrics say of one
another."""

import copy
import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from common import DEPLOY, ROOT

PROMETHEUS = DEPLOY / "prometheus"
# The original's, by name: severity, and what the expression must hold.
ORIGINAL = {
    "HighResponseTimePerRequest": ("warning", ["0.80", "response_time_seconds_bucket[10m]", "> 2"]),
    "LoginFailuresSpike": ("critical", ["increase(login_failures_total[5m]) > 50"]),
    "DrasticDropInMonitoredTickers": ("critical", ["delta(monitored_tickers[5m]) < -10"]),
    "HighProductionLatency": ("critical", ["0.80", "production_latency_bucket[24h]", "> 2"]),
}
# Series that come together, with the adapters of which they tell. While src/metrics.rs has none of a
# group, its rules and panels wait for it; as soon as it has one, it must have all.
TOGETHER = [
    ["tripline_kafka_brokers", "tripline_kafka_leader_partitions", "tripline_kafka_partitions_offline",
     "tripline_kafka_partitions_under_min_isr", "tripline_kafka_partitions_under_replicated"],
    ["tripline_ready", "tripline_partitions", "tripline_partitions_owned"],
]
SUFFIXES = ("_total", "_bucket", "_count", "_sum")
SERIES = re.compile(r"\b(?:tripline_\w+|\w+_total|monitored_tickers|cache_size|\w+_bucket)\b")


def rules(kind):
    """All rules of a kind, `alert` or `record`."""
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if kind in rule)


def cases():
    """All cases of the rules' unit tests."""
    for path in sorted((PROMETHEUS / "tests").glob("*.test.yml")):
        yield from yaml.safe_load(path.read_text())["tests"]


def registered():
    """The names of all series, as src/metrics.rs registers them."""
    found, prefix = set(), ""
    for line in (ROOT / "src/metrics.rs").read_text().splitlines():
        if "fn register_own" in line:
            prefix = "tripline_"
        name = re.search(r'^\s*(?:\w+\.register\(\s*)?"([a-z0-9_]+)",', line)
        if name:
            found.add(prefix + name[1])
    # The library's own ending for counters and histograms is not in the code.
    return found


def unknown(text):
    """The series that a query names and src/metrics.rs does not register."""
    # A recorded series has colons, and a rule of its own.
    text = re.sub(r"[a-z_0-9]+(:[a-z_0-9]+)+", " ", text)
    known = registered()
    names = set(SERIES.findall(text))
    base = {name: next((name[: -len(s)] for s in SUFFIXES if name.endswith(s)), name) for name in names}
    awaited = {name for group in TOGETHER if not known & set(group) for name in group}
    missing = {name for name in names if name not in known and base[name] not in known}
    for name in sorted(missing & awaited):
        print(f"not run: what asks for {name}, which this Tripline does not have")
    return missing - awaited


def anchors(page):
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Rules(unittest.TestCase):
    def test_the_originals_are_as_they_were(self):
        found = {rule["alert"]: rule for rule in rules("alert")}
        for name, (severity, parts) in ORIGINAL.items():
            self.assertEqual(found[name]["labels"]["severity"], severity)
            for part in parts:
                self.assertIn(part, found[name]["expr"])
        self.assertNotIn("for", found["DrasticDropInMonitoredTickers"], "a single fall must fire")

    def test_every_alert_says_what_and_what_to_do(self):
        page = anchors(ROOT / "docs/operations.md")
        count = 0
        for rule in rules("alert"):
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                for note in ("summary", "description", "runbook_url"):
                    self.assertTrue(rule["annotations"][note])
                file, anchor = rule["annotations"]["runbook_url"].split("#")
                self.assertEqual(file, "docs/operations.md")
                self.assertEqual(anchor, rule["alert"].lower())
                self.assertIn(anchor, page, "no such heading in docs/operations.md")
                count += 1
        print(f"{count} alerts, each with its runbook")

    def test_every_alert_fires_in_a_test_and_does_not_in_another(self):
        fired, silent = set(), set()
        for case in cases():
            for test in case.get("alert_rule_test", []):
                (fired if test.get("exp_alerts") else silent).add(test["alertname"])
        names = {rule["alert"] for rule in rules("alert")}
        self.assertEqual(names - fired, set(), "never seen to fire")
        self.assertEqual(names - silent, set(), "never seen not to")
        self.assertEqual((fired | silent) - names, set(), "tests of no rule")

    def test_every_recorded_series_is_tested(self):
        asked = {test["expr"] for case in cases() for test in case.get("promql_expr_test", [])}
        names = {rule["record"] for rule in rules("record")}
        self.assertEqual(names - asked, set())

    def test_rules_name_series_that_exist(self):
        for kind in ("alert", "record"):
            for rule in rules(kind):
                with self.subTest(rule[kind]):
                    self.assertEqual(unknown(rule["expr"]), set())

    def test_the_page_of_metrics_names_every_series(self):
        page = (ROOT / "docs/operations.md").read_text()
        missing = {name for name in registered() if name not in page}
        self.assertEqual(missing, set(), "not in docs/operations.md")


class Configs(unittest.TestCase):
    def test_mailpits_alertmanager_differs_in_addresses_only(self):
        one = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
        other = yaml.safe_load((DEPLOY / "alertmanager/mailpit/alertmanager.yml").read_text())
        self.assertEqual(one["route"], other["route"])
        self.assertEqual(one["inhibit_rules"], other["inhibit_rules"])
        self.assertTrue(one["global"]["smtp_require_tls"])
        self.assertEqual(one["route"]["repeat_interval"], "3h")
        self.assertEqual(set(one["global"]), set(other["global"]))

    def test_inhibitions_name_alerts_that_exist(self):
        names = {rule["alert"] for rule in rules("alert")}
        config = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
        for rule in config["inhibit_rules"]:
            for matcher in rule["source_matchers"] + rule["target_matchers"]:
                key, value = re.fullmatch(r'(\w+) =~? "?([^"]+)"?', matcher).groups()
                if key == "alertname":
                    self.assertLessEqual(set(value.split("|")), names, matcher)

    def test_the_scrape_config_without_its_discovery_is_valid(self):
        """Debian's promtool knows no Kubernetes; all but the discovery is checked with it."""
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        plain = copy.deepcopy(config)
        job = plain["scrape_configs"][0]
        found = job.pop("kubernetes_sd_configs")
        self.assertEqual(found[0]["role"], "pod")
        self.assertEqual(found[0]["selectors"][0]["label"], "app.kubernetes.io/name=tripline")
        self.assertEqual(config["global"]["scrape_interval"], "15s")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "rules").symlink_to(PROMETHEUS / "rules")
            file = Path(folder) / "prometheus.yml"
            file.write_text(yaml.safe_dump(plain))
            subprocess.run(["promtool", "check", "config", file], check=True, capture_output=True)

    def test_the_dashboard_names_series_that_exist(self):
        text = (DEPLOY / "grafana/tripline.json").read_text()
        queries = [
            target["expr"]
            for panel in json.loads(text)["panels"]
            for target in panel.get("targets", [])
        ]
        self.assertTrue(queries)
        for query in queries:
            with self.subTest(query):
                self.assertEqual(unknown(query), set())


if __name__ == "__main__":
    unittest.main(verbosity=2)
