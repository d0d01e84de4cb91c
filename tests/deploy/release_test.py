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
# What dev/release/sign takes from the environment.
KEYS = ("MINISIGN_KEY", "ACTIONS_ID_TOKEN_REQUEST_URL", "CI")


def said(step, *args, **environment):
    """What a step says, with nobody's keys but those given."""
    kept = {name: value for name, value in os.environ.items() if name not in KEYS}
    command = [ROOT / "dev/release" / step, *args]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True)


class Release(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        made = tempfile.TemporaryDirectory()
        cls.addClassCleanup(made.cleanup)
        cls.folder = Path(made.name)
        cls.binary = cls.folder / "tripline"
        shutil.copy(BINARY, cls.binary)
        subprocess.run(["strip", cls.binary], check=True)

    def packed(self, name):
        """A folder with a package."""
        made = said("package", self.binary, self.folder / name)
        self.assertEqual(made.returncode, 0, made.stderr)
        return self.folder / name

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
        self.assertEqual(said("version", f"v{version}").returncode, 0)
        self.assertNotEqual(said("version", "v99.0.0").returncode, 0)

    def test_a_package_is_whole_and_the_same_each_time(self):
        folder = self.packed("one")
        self.assertEqual((folder / "SHA256SUMS").read_text(), (self.packed("two") / "SHA256SUMS").read_text())
        self.assertEqual(said("verify", folder).returncode, 0)
        bill = json.loads(next(folder.glob("*.spdx.json")).read_text())
        names = {package["name"] for package in bill["packages"]}
        self.assertLessEqual({"tripline", "tokio", "sqlx", "rustls"}, names)
        self.assertNotIn("proptest", names, "only the tests use it")
        # A changed file is found.
        archive = next(folder.glob("*.tar.gz"))
        with archive.open("ab") as file:
            file.write(b"x")
        self.assertNotEqual(said("verify", folder).returncode, 0)

    def test_a_signature_is_of_its_key_and_of_these_checksums(self):
        minisign = shutil.which("minisign") or self.skipTest("signing (needs minisign: apt install minisign)")
        folder = self.packed("signed")
        keys = []
        for name in ("ours", "another"):
            paths = self.folder / f"{name}.pub", self.folder / f"{name}.key"
            subprocess.run([minisign, "-G", "-W", "-p", paths[0], "-s", paths[1]], check=True, capture_output=True)
            keys.append((paths[0].read_text().splitlines()[1], paths[1].read_text().strip()))
        (public, secret), (another, _) = keys
        signed = said("sign", folder, MINISIGN_KEY=secret, CI="true")
        self.assertEqual(signed.returncode, 0, signed.stderr)
        self.assertIn("Signature and comment signature verified", said("verify", folder, public).stdout)
        self.assertNotEqual(said("verify", folder, another).returncode, 0)
        with (folder / "SHA256SUMS").open("a") as file:
            file.write("\n")
        self.assertNotEqual(said("verify", folder, public).returncode, 0)

    def test_a_release_is_not_left_unsigned(self):
        empty = self.folder / "unsigned"
        empty.mkdir()
        self.assertNotEqual(said("sign", empty, CI="true").returncode, 0)
        here = said("sign", empty)
        self.assertEqual(here.returncode, 0, here.stderr)
        self.assertIn("not signed", here.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
