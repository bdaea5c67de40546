"""A stand-in for a cluster with Kubernetes: it answers what the executor plugin asks, and runs a job's command here.

It keeps each job that it is sent, as it was sent. A job's containers, limits and volumes mean nothing to it: the
command is a process of this machine, which starts in an empty folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = """apiVersion: v1
kind: Config
current-context: made-up
contexts: [{{name: made-up, context: {{cluster: made-up, user: nobody}}}}]
clusters: [{{name: made-up, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: nobody, user: {{}}}}]
"""


class Cluster:
    """A server on loopback, and the processes of the jobs that were submitted to it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], lost: str = "") -> None:
        """Start the server. The first job whose command contains `lost` is lost as soon as it computes."""
        folder.mkdir(parents=True)
        self.folder, self.environment, self.lost = folder, dict(environment), lost
        self.jobs: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.config = folder / "config"
        self.config.write_text(CONFIG.format(port=self.server.server_port), encoding="utf-8")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End the server and all jobs."""
        for name in self.processes:
            self.lose(name)
        self.server.shutdown()
        self.server.server_close()

    def _lose_one(self, name: str) -> None:
        """Lose the job that is to be lost, if it is this one and its rule has begun."""
        command = self.jobs[[job["metadata"]["name"] for job in self.jobs].index(name)]
        if self.lost and self.lost in json.dumps(command) and "localrule" in self.said(name):
            self.lose(name)
            self.lost = ""

    def lose(self, name: str) -> None:
        """End all processes of a job at once, as when its node is lost."""
        if self.processes[name].poll() is None:
            os.killpg(self.processes[name].pid, signal.SIGKILL)
            self.processes[name].wait()

    def said(self, name: str = "*") -> str:
        """Return what a job printed, or what all did."""
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in self.folder.glob(f"{name}.log"))

    def submit(self, job: dict[str, Any]) -> None:
        """Keep a job and start its command."""
        self.jobs.append(job)
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=tempfile.mkdtemp(dir=self.folder),
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answer(self, method: str, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        """Answer one question of the client."""
        kind, _, name = path.partition("?")[0].partition("/namespaces/default/")[2].partition("/")
        if (method, kind) == ("POST", "jobs"):
            self.submit(sent)
            return sent
        if (method, kind) == ("GET", "jobs"):
            name = name.removesuffix("/status")
            self._lose_one(name)
            code = self.processes[name].poll()
            return {"metadata": {"name": name}, "status": {"succeeded": int(code == 0), "failed": int(bool(code))}}
        if (method, kind) == ("GET", "pods"):
            return {"items": []}
        if (method, kind) == ("DELETE", "jobs"):
            self.deleted.append(name)
        return sent if method == "POST" else {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                sent = json.loads(self.rfile.read(size) or b"{}")
                content = json.dumps(cluster.answer(self.command, self.path, sent)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = do  # noqa: N815 (names that http.server looks for)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        return Handler
