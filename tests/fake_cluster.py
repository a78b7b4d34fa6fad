"""A Kubernetes API that runs pods as processes of this machine, as far as Snakemake's executor asks for it.

It checks what the real one would: rights against a Role, names, mounts, limits of cards. A pod starts in an empty
folder with nothing but PATH in its environment; a claim can only be mounted where its folder lies, since a process
without further rights cannot mount anything. A card is counted, not given.
"""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import yaml

ROUTE = re.compile(r"/(?:api/v1|apis/(batch)/v1)/namespaces/default/(\w+)(?:/([-\w]+))?(?:/(\w+))?")
VERBS = {"POST": "create", "DELETE": "delete"}


@dataclass
class Pod:
    """One job's only pod."""

    spec: dict[str, Any]
    process: subprocess.Popen[bytes] | None  # None: never started
    log: Path
    preempted: bool = False
    deleted: bool = False

    @property
    def exit_code(self) -> int | None:
        if self.process is None:
            return 1
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code


@dataclass
class FakeCluster:
    """Arguments: the folder behind each claim, the rules of the Role, whether pods run or fail at once, and a pod to
    preempt (what its command contains, and when): the first such is killed, later ones are let be."""

    claims: dict[str, Path]
    rules: list[dict[str, list[str]]]
    runs_pods: bool = True
    preempt: tuple[str, Callable[[], bool]] | None = None
    pods: dict[str, Pod] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def __enter__(self) -> "FakeCluster":
        self.scratch = tempfile.TemporaryDirectory()
        handler = type("Bound", (Handler,), {"cluster": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for pod in self.pods.values():
            stop(pod)
        self.scratch.cleanup()

    def kubeconfig(self, path: Path) -> Path:
        """The file by which clients find this cluster, written to `path`."""
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "users": [{"name": "nobody", "user": {}}],
        }
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def allows(self, verb: str, group: str, resource: str) -> bool:
        asked = (("verbs", verb), ("apiGroups", group), ("resources", resource))
        return any(all(word in rule[key] for key, word in asked) for rule in self.rules)

    def problem(self, spec: dict[str, Any]) -> str:
        """Why the real API would refuse this pod, or a mount that cannot be had here; empty if nothing is wrong."""
        (container,) = spec["containers"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                return f"no volume {mount['name']}"
            claim = volumes[mount["name"]].get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and self.claims.get(claim) != Path(mount["mountPath"]):
                return f"no claim {claim} for {mount['mountPath']}"
        if spec["restartPolicy"] not in ("Never", "OnFailure"):
            return "restartPolicy of a job's pod"
        resources = container["resources"]
        for name, value in resources["requests"].items():
            if "/" in name and resources.get("limits", {}).get(name) != value:
                return f"limit must be set for non overcommitable resources: {name}"
        return ""

    def start(self, name: str, spec: dict[str, Any]) -> None:
        (container,) = spec["containers"]
        folder = Path(self.scratch.name, name)
        folder.mkdir()
        log = Path(self.scratch.name, f"{name}.log")
        log.touch()
        pod = Pod(spec, None, log)
        if self.runs_pods:
            with log.open("wb") as file:
                pod.process = subprocess.Popen(
                    [*container["command"], *container["args"]],
                    cwd=folder,
                    env={"PATH": os.defpath, "HOME": str(folder)},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
        words = " ".join(container["args"])
        if self.preempt is not None and self.preempt[0] in words and not any(p.preempted for p in self.pods.values()):
            pod.preempted = True
            threading.Thread(target=kill_when, args=(pod, self.preempt[1]), daemon=True).start()
        self.pods[name] = pod


def kill_when(pod: Pod, ready: Callable[[], bool]) -> None:
    while pod.exit_code is None:
        if ready():
            return stop(pod)
        time.sleep(0.05)


def stop(pod: Pod) -> None:
    """SIGKILL for everything in a pod: Snakemake gives each shell a session of its own."""
    if pod.process is not None and pod.process.poll() is None:
        inside = psutil.Process(pod.process.pid).children(recursive=True)
        pod.process.kill()
        for process in inside:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        pod.process.wait()


class Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, why: str) -> None:
        self.cluster.refused.append(f"{self.command} {self.path}: {why}")
        self.answer(status, {"kind": "Status", "status": "Failure", "message": why, "code": status})

    def do_GET(self) -> None:
        self.handle_request({})

    def do_DELETE(self) -> None:
        self.handle_request(self.body())

    def do_POST(self) -> None:
        self.handle_request(self.body())

    def body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        found: dict[str, Any] = json.loads(self.rfile.read(length) or b"{}")
        return found

    def handle_request(self, body: dict[str, Any]) -> None:
        url = urlsplit(self.path)
        match = ROUTE.fullmatch(url.path)
        if match is None:
            return self.refuse(404, "no such path")
        group, resource, name, sub = match[1] or "", match[2], match[3], match[4]
        verb = VERBS.get(self.command) or ("get" if name else "list")
        if not self.cluster.allows(verb, group, f"{resource}/{sub}" if sub else resource):
            return self.refuse(403, "the Role does not allow it")
        query = parse_qs(url.query)
        method = getattr(self, f"{verb}_{resource}{f'_{sub}' if sub else ''}")
        return method(name, body, query)

    def create_secrets(self, _: str, body: dict[str, Any], __: object) -> None:
        self.cluster.secrets.add(body["metadata"]["name"])
        self.answer(201, body)

    def delete_secrets(self, name: str, *_: object) -> None:
        self.cluster.secrets.remove(name)
        self.answer(200, {"kind": "Status", "status": "Success"})

    def create_jobs(self, _: str, body: dict[str, Any], __: object) -> None:
        name, spec = body["metadata"]["name"], body["spec"]["template"]["spec"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) or body["spec"]["backoffLimit"] != 0:
            return self.refuse(422, "name or backoffLimit")
        if name in self.cluster.pods:
            return self.refuse(409, "already exists")
        if problem := self.cluster.problem(spec):
            return self.refuse(422, problem)
        self.cluster.start(name, spec)
        return self.answer(201, body)

    def get_jobs_status(self, name: str, *_: object) -> None:
        code = self.cluster.pods[name].exit_code
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        self.answer(200, {"kind": "Job", "metadata": {"name": name}, "status": status})

    def delete_jobs(self, name: str, *_: object) -> None:
        stop(self.cluster.pods[name])
        self.cluster.pods[name].deleted = True
        self.answer(200, {"kind": "Status", "status": "Success"})

    def list_pods(self, _: object, __: object, query: dict[str, list[str]]) -> None:
        (selector,) = query["labelSelector"]
        name = selector.removeprefix("job-name=")
        code = self.cluster.pods[name].exit_code
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        status = {"name": "snakemake", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        item = {"metadata": {"name": f"{name}-x"}, "status": {"containerStatuses": [status]}}
        self.answer(200, {"kind": "PodList", "items": [] if self.cluster.pods[name].deleted else [item]})

    def delete_pods(self, name: str, *_: object) -> None:
        stop(self.cluster.pods[name.removesuffix("-x")])
        self.answer(200, {"kind": "Pod", "metadata": {"name": name}})

    def get_pods_log(self, name: str, _: object, query: dict[str, list[str]]) -> None:
        if query.get("previous") == ["True"] or query.get("previous") == ["true"]:
            return self.refuse(400, f'previous terminated container "snakemake" in pod "{name}" not found')
        return self.answer(200, self.cluster.pods[name.removesuffix("-x")].log.read_text(encoding="utf-8"))
