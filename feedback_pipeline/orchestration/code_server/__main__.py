"""Dagster's code server, as `dagster api grpc`; its runs are forked from a process that has imported already what a pass needs.

    python -m feedback_pipeline.orchestration.code_server --socket FILE -m MODULE ...

Dagster starts an interpreter for each run. With this code its imports take as long as learning from a thousand reviews, and a
forecast of ten new outputs takes little else. Linux only: elsewhere libraries of the system do not survive a fork.
"""

import multiprocessing
import sys
from multiprocessing import forkserver

_FORKS = sys.platform == "linux"
_IMPORTED_BEFORE = ["feedback_pipeline.definitions", "feedback_pipeline.orchestration.code_server.imported_before"]


def main() -> None:
    """Serve until told to stop; the arguments are those of `dagster api grpc`."""
    from dagster._cli import api

    if _FORKS:
        _fork_runs()
    api.grpc_command(prog_name="code_server")


def _fork_runs() -> None:
    """The servers that this process makes start their runs by forking."""
    from dagster._grpc import server

    class Server(server.DagsterApiServer):
        """Its first run waits for nothing: the process that is forked begins to import as soon as the definitions are served."""

        def __init__(self, *args: object, **named: object) -> None:
            super().__init__(*args, **named)  # type: ignore[arg-type]
            self._mp_ctx = multiprocessing.get_context("forkserver")  # type: ignore[assignment]
            multiprocessing.set_forkserver_preload(_IMPORTED_BEFORE)
            forkserver.ensure_running()

    # The command looks the class up when it runs, and has no option for what starts a run.
    server.DagsterApiServer = Server  # type: ignore[misc]


if __name__ == "__main__":
    main()
