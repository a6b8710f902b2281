"""Runs of Dagster, through the web server of this machine: starting one, and how far it has come.

The web server knows the code and the instance already; a second process that submits runs would have to load both.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from feedback_pipeline.errors import NotFound, StoreError, StoreUnavailable

JOB: Final = "learn"
LOCATION: Final = "feedback_pipeline.definitions"
_REPOSITORY: Final = "__repository__"
_TIMEOUT_S: Final = 15.0
_UNDER_WAY: Final = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]
_STATUS: Final = {
    **dict.fromkeys(("QUEUED", "NOT_STARTED", "STARTING"), "queued"),
    **dict.fromkeys(("STARTED", "MANAGED", "SUSPENDED"), "running"),
    "SUCCESS": "done",
    "FAILURE": "failed",
    **dict.fromkeys(("CANCELING", "CANCELED"), "cancelled"),
}
_STEP: Final = {"IN_PROGRESS": "running", "SUCCESS": "done", "FAILURE": "failed", "SKIPPED": "skipped"}
_ENDED: Final = ("done", "failed", "skipped")

_LAUNCH: Final = """
mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { className } } }
"""
_FIND: Final = """
query ($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 50) {
  __typename ... on Runs { results { runId tags { key value } repositoryOrigin { repositoryLocationName } } } } }
"""
_PROGRESS: Final = """
query ($id: ID!) { runOrError(runId: $id) { __typename ... on Run {
  status startTime endTime stepStats { stepKey status startTime } executionPlan { steps { key } } } } }
"""


class DagsterRuns:
    """The runs of one installation.

    Args:
        address: Of the Dagster web server.
        shown: Its address as people reach it; None = the same.
    """

    def __init__(self, address: str, shown: str | None = None) -> None:
        self._address = address.rstrip("/")
        self.shown: Final = (shown or address).rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def page(self, run_id: str) -> str:
        """Where the web UI shows a run."""
        return f"{self.shown}/runs/{run_id}"

    def launch(self, tags: Mapping[str, str]) -> str:
        """Start the job that learns, and return the id of its run.

        Raises:
            StoreUnavailable: the web server does not answer.
            StoreError: it refuses.
        """
        selector = {"repositoryLocationName": LOCATION, "repositoryName": _REPOSITORY, "pipelineName": JOB}
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": listed}}
        answer = self._ask(_LAUNCH, {"params": params})["launchPipelineExecution"]
        if "run" not in answer:
            raise StoreError(f"Dagster does not start the job {JOB} ({answer['__typename']}); its page says why")
        return str(answer["run"]["runId"])

    def under_way(self, tag: tuple[str, str]) -> str | None:
        """The oldest run of the job that has not ended and is of an installation, or of our code and does not say yet of which.

        Raises:
            StoreUnavailable: the web server does not answer.
        """
        answer = self._ask(_FIND, {"filter": {"pipelineName": JOB, "statuses": _UNDER_WAY}})["runsOrError"]
        key, own = tag
        ours = [run["runId"] for run in answer.get("results", []) if _owner(run, key) == own or _is_unclaimed(run, key)]
        return str(ours[-1]) if ours else None

    def progress(self, run_id: str) -> dict[str, Any]:
        """How far a run has come: run_id, status, steps_done, steps_total, steps, started_at, ended_at, page.

        Raises:
            NotFound: there is no such run.
            StoreUnavailable: the web server does not answer.
        """
        run = self._ask(_PROGRESS, {"id": run_id})["runOrError"]
        if run["__typename"] != "Run":
            raise NotFound("Dagster has no run of that id; POST agents/{agent}/learn says the id of the one under way")
        status = _STATUS[run["status"]]
        began = sorted(run["stepStats"], key=lambda step: (step["startTime"] is None, step["startTime"] or 0.0))
        came = {step["stepKey"]: _STEP.get(step["status"], "waiting") for step in began}
        planned = [step["key"] for step in (run["executionPlan"] or {"steps": []})["steps"]]
        steps = {key: came.get(key, "waiting") for key in dict.fromkeys([*came, *planned])}
        return {
            "run_id": run_id,
            "status": status,
            "steps_done": sum(state in _ENDED for state in steps.values()),
            "steps_total": len(steps),
            "steps": [{"step": key, "status": state} for key, state in steps.items()],
            "started_at": _moment(run["startTime"]),
            "ended_at": _moment(run["endTime"]),
            "page": self.page(run_id),
        }

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self._address}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            error.close()
            raise StoreError(f"Dagster refuses what it is asked (status {error.code}); its page says why") from None
        except (OSError, ValueError):
            raise StoreUnavailable(
                f"the Dagster web server does not answer at {self._address}; `feedback-pipeline up` starts it"
            ) from None
        if not isinstance(answer, dict) or answer.get("errors") or not answer.get("data"):
            raise StoreError("Dagster does not understand what it is asked; is it of the version this package was made for?")
        data: dict[str, Any] = answer["data"]
        return data


def _owner(run: Mapping[str, Any], key: str) -> str | None:
    return {pair["key"]: pair["value"] for pair in run["tags"]}.get(key)


def _is_unclaimed(run: Mapping[str, Any], key: str) -> bool:
    """Started from the web UI and still in the queue: others may have a job of the same name in the same Dagster."""
    origin = run["repositoryOrigin"] or {}
    return _owner(run, key) is None and origin.get("repositoryLocationName") == LOCATION


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
