"""Each overlay on a real API server: what it refuses, warns of, or sees a conflict in fails here.
No controller runs, so the test makes the pods and claims that they would make."""

import copy
import http.client
import json
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path
from urllib.parse import urlencode

from common import OVERLAYS, TOOLS, Process, free_port, overlay, pods

TOKEN = "only-for-this-test"
NAMESPACE = "tripline"
# kubectl keeps what it applied in this annotation, whose size is bounded.
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Server:
    """etcd and kube-apiserver on free ports, and calls to it."""

    def __init__(self, test):
        made = tempfile.TemporaryDirectory()
        test.addCleanup(made.cleanup)
        folder = Path(made.name)
        store, peer, self.port = free_port(), free_port(), free_port()
        Process(
            test, "etcd", folder, TOOLS / "etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{store}", f"--advertise-client-urls=http://127.0.0.1:{store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        key = folder / "key.pem"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        tokens = folder / "tokens"
        tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
        process = Process(
            test, "kube-apiserver", folder, TOOLS / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{store}",
            "--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", f"--secure-port={self.port}",
            f"--cert-dir={folder}/certificates", f"--token-auth-file={tokens}", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.test",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        )
        # Its certificate is its own, and this is the loopback.
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self.connection = None
        test.addCleanup(lambda: self.connection and self.connection.close())
        self.resources = {}
        process.until(self.ready, "the API server", 180)

    def ready(self):
        """Whether it takes objects; the first ones are its own."""
        try:
            return self.call("GET", "/readyz")[0] == 200 and self.call("GET", "/api/v1/namespaces/default")[0] == 200
        except OSError:
            self.connection = None
            return False

    def call(self, method, path, body=None, kind="application/json", **query):
        """The status of a call, its answer, and the warnings beside it."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.tls)
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json", "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        self.connection.request(method, f"{path}?{urlencode(query)}", data, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        found = json.loads(text) if answer.getheader("Content-Type") == "application/json" else text
        return answer.status, found, answer.headers.get_all("Warning") or []

    def path(self, made):
        """Where objects of a kind are."""
        version = made["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if root not in self.resources:
            listed = self.call("GET", root)[1].get("resources", [])
            self.resources[root] = {entry["kind"]: entry for entry in listed if "/" not in entry["name"]}
        entry = self.resources[root][made["kind"]]
        place = f"/namespaces/{made['metadata']['namespace']}" if entry["namespaced"] else ""
        return f"{root}{place}/{entry['name']}"

    def create(self, made, dry=False):
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry else {})
        return self.call("POST", self.path(made), made, **query)

    def apply(self, made):
        """As `kubectl apply --server-side`."""
        return self.call(
            "PATCH", f"{self.path(made)}/{made['metadata']['name']}", made, "application/apply-patch+yaml",
            fieldManager="kubectl", fieldValidation="Strict",
        )


def with_annotation(made):
    """An object as `kubectl apply` sends it."""
    sent = copy.deepcopy(made)
    sent["metadata"].setdefault("annotations", {})[APPLIED] = json.dumps(made)
    return sent


def made_by_controllers(objects):
    """The first pod of each workload, and the claims of all pods."""
    for made, spec in pods(objects):
        name, template = made["metadata"]["name"], made["spec"]["template"]
        first = made["spec"].get("ordinals", {}).get("start", 0)
        spec = copy.deepcopy(spec)
        for claim in made["spec"].get("volumeClaimTemplates", []):
            kept = claim["metadata"]["name"]
            volume = {"name": kept, "persistentVolumeClaim": {"claimName": f"{kept}-{name}-{first}"}}
            spec.setdefault("volumes", []).append(volume)
            for number in range(first, first + made["spec"]["replicas"]):
                yield {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": f"{kept}-{name}-{number}", "namespace": NAMESPACE},
                    "spec": claim["spec"],
                }
        metadata = template["metadata"] | {"name": f"{name}-{first}", "namespace": NAMESPACE}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def judged(made, answer):
    """What the server made of an object, and what is wrong with it: which object, and why."""
    status, found, warnings = answer
    why = warnings
    if status not in (200, 201):
        why = [f"{status}: {found['message'] if isinstance(found, dict) else found}"]
    return found, "; ".join(f"{made['kind']} {made['metadata']['name']}: {line}" for line in why)


class Apiserver(unittest.TestCase):
    def said(self, made, answer):
        """What the server made of an object; fails if it refused it, or warned of it."""
        found, wrong = judged(made, answer)
        if wrong:
            self.fail(wrong)
        return found

    def every(self, objects, call):
        """Calls with every object, and names all that failed."""
        answers = [judged(made, call(made)) for made in objects]
        wrong = [wrong for _, wrong in answers if wrong]
        if wrong:
            self.fail("\n".join(wrong))
        return [found for found, _ in answers]

    def test_overlays(self):
        for name in OVERLAYS:
            with self.subTest(name):
                # NodePorts and volumes are the cluster's, so that each overlay has its own.
                self.one(Server(self), name)
                self.doCleanups()

    def one(self, server, name):
        objects = overlay(name)
        namespace = next(made for made in objects if made["kind"] == "Namespace")
        self.assertEqual(namespace["metadata"]["name"], NAMESPACE)
        # Without its namespace nothing else can be tried.
        self.said(namespace, server.apply(namespace))
        # A controller gives each namespace this one.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
        self.said(account, server.create(account))

        others = [made for made in objects if made is not namespace]
        self.every(others, lambda made: server.create(with_annotation(made), dry=True))
        before = self.every(objects, server.apply)
        after = self.every(objects, server.apply)
        for one, two in zip(before, after):
            # It grows for a claim even where nothing else changes.
            del one["metadata"]["resourceVersion"], two["metadata"]["resourceVersion"]
            self.assertEqual(one, two, "applied again")
        made = list(made_by_controllers(objects))
        self.every(made, server.create)
        self.bound(server)
        self.scaled(server, objects)
        kinds = [one["kind"] for one in made]
        print(
            f"{name}: {len(objects)} objects are taken as a dry run, for real, and once more; "
            f"so are {kinds.count('Pod')} pods and {kinds.count('PersistentVolumeClaim')} claims of theirs",
            flush=True,
        )
        if name == "minikube":
            self.refused(server, objects, made)

    def bound(self, server):
        """Each claim that no storage class serves has one volume that is meant for it."""
        claims = server.call("GET", f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims")[1]["items"]
        volumes = server.call("GET", "/api/v1/persistentvolumes")[1]["items"]
        served = []
        for claim in claims:
            spec, name = claim["spec"], claim["metadata"]["name"]
            if spec.get("storageClassName") != "":
                continue
            for volume in volumes:
                meant = volume["spec"]["claimRef"]
                if (meant["namespace"], meant["name"]) == (NAMESPACE, name):
                    served.append(name)
                    self.assertIn(spec.get("volumeName"), (None, volume["metadata"]["name"]))
                    self.assertEqual(volume["spec"]["capacity"]["storage"], spec["resources"]["requests"]["storage"])
                    self.assertEqual(volume["spec"]["accessModes"], spec["accessModes"])
                    self.assertEqual(volume["spec"].get("storageClassName", ""), "")
        wanted = [claim["metadata"]["name"] for claim in claims if claim["spec"].get("storageClassName") == ""]
        self.assertEqual(sorted(served), sorted(wanted))
        self.assertEqual(len(volumes), len(served), "each volume has its claim")

    def scaled(self, server, objects):
        """What an autoscaler sets stays when the overlay is applied once more."""
        for scaler in (made for made in objects if made["kind"] == "HorizontalPodAutoscaler"):
            wanted = scaler["spec"]["scaleTargetRef"]["name"]
            target = next(made for made, _ in pods(objects) if made["metadata"]["name"] == wanted)
            path = f"{server.path(target)}/{target['metadata']['name']}/scale"
            scale = self.said(target, server.call("GET", path))
            scale["spec"]["replicas"] = scaler["spec"]["maxReplicas"]
            self.said(target, server.call("PUT", path, scale, fieldManager="autoscaler"))
            kept = self.said(target, server.apply(target))
            self.assertEqual(kept["spec"]["replicas"], scaler["spec"]["maxReplicas"])

    def refused(self, server, objects, made):
        """The same calls with what is wrong: the checks above can fail."""

        def wrong(kind, source, change, expected):
            spoilt = copy.deepcopy(next(one for one in source if one["kind"] == kind and change(copy.deepcopy(one))))
            change(spoilt)
            spoilt["metadata"]["name"] += "-wrong"
            status, found, _ = server.create(spoilt, dry=True)
            self.assertGreaterEqual(status, 400, kind)
            self.assertIn(expected, found["message"])
            print(f"refused, as it must be: {found['message'][:110]}", flush=True)

        def misspelt(one):
            one["spec"]["replica"] = 2
            return True

        def privileged(one):
            one["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
            return True

        def same_port(one):
            return any("nodePort" in port for port in one["spec"]["ports"])

        wrong("Deployment", objects, misspelt, 'unknown field "spec.replica"')
        wrong("Pod", made, privileged, "violates PodSecurity")
        wrong("Service", objects, same_port, "provided port is already allocated")


if __name__ == "__main__":
    unittest.main(verbosity=2)
