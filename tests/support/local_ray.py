"""A Ray of two workers on this machine, which a test may kill and start again, and the processes of a command on it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
SECONDS = 120
"""Patience with everything that Ray does."""


def free_port():
    with socket.socket() as taken:
        taken.bind(("", 0))
        return taken.getsockname()[1]


def wait_for(condition, what):
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


class LocalRay:
    """The head of a cluster with two cores."""

    def __init__(self, folder):
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder  # short: Ray puts sockets below it
        self.start()

    def start(self):
        """Start it; again where this machine was too busy for Ray, which gives its parts 15 seconds to start."""
        for _ in range(3):
            command = [RAY, "start", "--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=2", "--block"]
            quiet = ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000"]
            self.process = subprocess.Popen(
                [*command, *quiet, f"--temp-dir={self.folder}"],
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._is_up():
                return
            self.kill()
        raise AssertionError("Ray does not start on this machine")

    def _is_up(self):
        status = [RAY, "status", f"--address={self.address}"]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            done = subprocess.run(status, env=ENVIRONMENT, capture_output=True, text=True)
            if "/2.0 CPU" in done.stdout:
                return True
            time.sleep(0.5)
        return False

    def workers(self):
        """The ids of the processes that make a job now."""
        return [pid for pid, name in running(self.process.pid) if name.startswith("ray::work")]

    def kill(self):
        """Kill the head and all that belongs to it, with SIGKILL."""
        for pid in [pid for pid, _ in running(self.process.pid)] + [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def running(ancestor):
    """The ids and the names of the processes that descend from one."""
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile
            continue
        processes[int(folder.name)] = parent, name
    for pid, (parent, name) in processes.items():
        while parent in processes and parent != ancestor:
            parent = processes[parent][0]
        if parent == ancestor:
            yield pid, name
