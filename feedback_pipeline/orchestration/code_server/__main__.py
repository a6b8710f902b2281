"""Dagster's code server, as `dagster api grpc`; its runs are forked from a process that has imported already what a pass needs.

    python -m feedback_pipeline.orchestration.code_server --socket FILE -m MODULE ...

Dagster starts an interpreter for each run, and what that imports takes as long as learning from a thousand reviews. Linux only:
elsewhere libraries of the system do not survive a fork.
"""

import multiprocessing
import sys
from multiprocessing import forkserver

_FORKS = sys.platform == "linux"
ORIGIN = "feedback_pipeline.orchestration.code_server.origin"


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
        """Once the definitions are loaded, what runs are forked from begins to import; a run that comes earlier waits for it."""

        def __init__(self, *args: object, **named: object) -> None:
            super().__init__(*args, **named)  # type: ignore[arg-type]
            if not hasattr(self, "_mp_ctx"):
                sys.stderr.write("This Dagster starts runs in another way: they are not forked, and begin some seconds later.\n")
                return
            self._mp_ctx = multiprocessing.get_context("forkserver")  # type: ignore[assignment]
            multiprocessing.set_forkserver_preload([ORIGIN])
            forkserver.ensure_running()

    # The command looks the class up when it runs, and has no option for what starts a run.
    server.DagsterApiServer = Server  # type: ignore[misc]


if __name__ == "__main__":
    main()
