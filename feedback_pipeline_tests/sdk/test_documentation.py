"""What docs/sdk.md shows works as it stands there, and what it names exists."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.sdk import HANDLERS, AsyncLearningClient, Bounds, ClientOptions, LearningClient
from feedback_pipeline.sdk.options import SPOOL_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from feedback_pipeline.sdk.results import LearningApplied
from feedback_pipeline.sdk.score_bounds import VARIABLE
from feedback_pipeline_tests.sdk.service import WITH_THE_API, Api
from feedback_pipeline_tests.sdk.test_client import AGENT

TEXT = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()


def calls(of: type) -> set[str]:
    return {name for name in vars(of) if not name.startswith("_") and name not in ("kept_improvements", "options", "sync")}


@pytest.mark.slow
@WITH_THE_API[1]
def test_the_snippets_work_one_after_the_other(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, api.url)
    monkeypatch.setenv(SPOOL_VARIABLE, str(tmp_path))
    snippets = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 6
    names: dict[str, Any] = {"__name__": "docs"}
    for snippet in snippets:
        exec(compile(snippet.replace('"drafter"', repr(AGENT)), "docs/sdk.md", "exec"), names)  # noqa: S102 - our own text
    assert names["line"].endswith("[probation]")
    left = names["client"].close()
    assert (left.pending, left.refused) == (0, 0)


def test_every_call_kind_and_variable_is_named() -> None:
    assert calls(LearningClient) == calls(AsyncLearningClient)
    for name in calls(LearningClient):
        assert f"`{name}" in TEXT, name
    assert set(re.findall(r"^\| `(\w+)` \| `\w+`:", TEXT, re.MULTILINE)) == set(HANDLERS)
    for name in LearningApplied.model_fields:
        assert f"`{name}`" in TEXT, name
    for name in (URL_VARIABLE, TOKEN_VARIABLE, SPOOL_VARIABLE, VARIABLE):
        assert f"`{name}`" in TEXT, name


def test_the_defaults_are_those_that_are_named() -> None:
    default: dict[str, Any] = {each.name: each.default for each in [*fields(ClientOptions), *fields(Bounds)]}
    assert f"`max_age_seconds` ({default['max_age_seconds']:.0f})" in TEXT
    assert f"`retry_seconds` ({default['retry_seconds']:.0f})" in TEXT
    assert f"`review_seconds` ({default['review_seconds']:.0f})" in TEXT
    assert f"`block_seconds` ({default['block_seconds']:.0f})" in TEXT
    assert f"({default['queue_size']:,} records)" in TEXT
    assert f"`spool_bytes` ({default['spool_bytes'] // 2**30} GiB)" in TEXT
