"""The web server of Dagster that the API asks, as a process."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from feedback_pipeline.environment import Environment
from feedback_pipeline.serving import dagster_runs


@contextmanager
def web_server(environment: Environment) -> Iterator[str]:
    """The web server of Dagster, without a daemon: what is queued stays queued."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-m", dagster_runs.LOCATION]
    running = subprocess.Popen(command, env=environment.of_children(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(f"http://127.0.0.1:{port}/server_info"):
            assert running.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=1):
            return True
    except urllib.error.URLError:
        return False
