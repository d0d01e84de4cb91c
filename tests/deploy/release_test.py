"""The steps of a release, up to where it leaves this machine."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from common import ROOT

BINARY = os.environ["TRIPLINE_BINARY"]


class Release(unittest.TestCase):
    def test_every_step_of_the_workflow_is_a_script_that_is_there(self):
        workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        scripts = {found for step in steps for found in re.findall(r"\bdev/release/\w+", step.get("run", ""))}
        self.assertEqual(len(scripts), 6)
        for script in scripts:
            self.assertTrue(os.access(ROOT / script, os.X_OK), script)
        for step in steps:
            self.assertNotRegex(step.get("uses", "a@1"), r"@(main|master|latest)$")

    def test_a_tag_that_is_not_the_version_is_refused(self):
        version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
        script = ROOT / "dev/release/version"
        self.assertEqual(subprocess.run([script, f"v{version}"]).returncode, 0)
        self.assertNotEqual(subprocess.run([script, "v99.0.0"], capture_output=True).returncode, 0)

    def test_a_package_is_whole_and_the_same_each_time(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            binary = folder / "tripline"
            shutil.copy(BINARY, binary)
            subprocess.run(["strip", binary], check=True)
            sums = []
            for run in ("one", "two"):
                subprocess.run(
                    [ROOT / "dev/release/package", binary, folder / run], check=True, capture_output=True
                )
                sums.append((folder / run / "SHA256SUMS").read_text())
            self.assertEqual(*sums)
            subprocess.run([ROOT / "dev/release/verify", folder / "one"], check=True)
            bill = json.loads(next((folder / "one").glob("*.spdx.json")).read_text())
            names = {package["name"] for package in bill["packages"]}
            self.assertLessEqual({"tripline", "tokio", "sqlx", "rustls"}, names)
            self.assertNotIn("proptest", names, "only the tests use it")
            # A changed file is found.
            archive = next((folder / "one").glob("*.tar.gz"))
            with archive.open("ab") as file:
                file.write(b"x")
            spoilt = subprocess.run([ROOT / "dev/release/verify", folder / "one"], capture_output=True)
            self.assertNotEqual(spoilt.returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
