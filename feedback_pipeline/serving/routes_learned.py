"""What was learned, as the command line shows it: the same documents under the same keys, with their provenance."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.schemas.documents import (
    Agents,
    Agreement,
    Correlations,
    Effectiveness,
    Patterns,
    Reviewer,
    Reviewers,
    Strategy,
)
from feedback_pipeline.schemas.improvements import Improvements
from feedback_pipeline.serving.access import PREFIX, READ, Needs
from feedback_pipeline.serving.contract import ERRORS, Agent, AgentFilter, Identifier
from feedback_pipeline.serving.pages import USUAL, Cursor, Key, Limit, nulls_last, page
from feedback_pipeline.serving.service import Document, Serving
from feedback_pipeline.storage.reading import read_findings, read_status
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_patterns import read_patterns
from feedback_pipeline.storage.reading_reviewers import read_agreement, read_reviewers
from feedback_pipeline.storage.reading_strategy import read_strategy

router = APIRouter(prefix=PREFIX, tags=["learned"], dependencies=[Depends(Needs(READ))], responses=ERRORS)


def _paged(document: Document, name: str, key: Any, limit: int, cursor: str | None) -> Document:
    part = page(document[name], key, limit, cursor)
    return document | {name: part["items"], "next": part["next"]}


@router.get(
    "/agents/{agent:path}/improvements",
    responses={200: {"model": Improvements}, 304: {"description": "It is as the client knows it"}},
    response_class=Response,
)
def improvements(agent: Agent, serving: Serving, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """What an agent can apply: patterns and recommendations. ETag and If-None-Match spare what has not changed."""
    sent = serving.improvements.read(agent)
    headers = {"ETag": sent.etag, "Cache-Control": "private, no-cache"}
    known = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")}
    if sent.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(sent.body, media_type="application/json", headers=headers)


@router.get("/agents", responses={200: {"model": Agents}}, response_model=None)
def agents(serving: Serving, limit: Limit = USUAL, cursor: Cursor = None) -> Document:
    """Every agent with its status and pending reviews, the last learning run, the champion."""
    document = serving.answer(read_status)
    return _paged(document, "agents", _by_agent, limit, cursor)


@router.get("/agents/{agent:path}/patterns", responses={200: {"model": Patterns}}, response_model=None)
def patterns(agent: Agent, serving: Serving, limit: Limit = USUAL, cursor: Cursor = None) -> Document:
    """The published patterns of an agent, or of the fleet (`*`), most certain first."""
    document = serving.answer(lambda snapshot: read_patterns(snapshot, agent), published=True)
    return _paged(document, "patterns", _by_confidence, limit, cursor)


@router.get("/correlations/{agent:path}", responses={200: {"model": Correlations}}, response_model=None)
def correlations(
    agent: Agent,
    serving: Serving,
    every: Annotated[bool, Query(alias="all", description="also tested pairs that are not published, with the reason")] = False,
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Document:
    """What goes with better or worse scores of an agent, or of the fleet (`*`), strongest first."""
    document = serving.answer(lambda snapshot: read_findings(snapshot, agent, unpublished=every), published=True)
    return _paged(document, "findings", _by_strength, limit, cursor)


@router.get("/strategy/{agent:path}", responses={200: {"model": Strategy}}, response_model=None)
def strategy(agent: Agent, serving: Serving) -> Document:
    """How an agent does by content type, tone, channel, structure and length, and its next allocation."""
    return serving.answer(lambda snapshot: read_strategy(snapshot, agent), published=True)


@router.get("/reviewers", responses={200: {"model": Reviewers}}, response_model=None)
def reviewers(serving: Serving, limit: Limit = USUAL, cursor: Cursor = None) -> Document:
    """Every reviewer's severity, standards and preferences, strictest first."""
    document = serving.answer(lambda snapshot: {"reviewers": read_reviewers(snapshot)}, published=True)
    return _paged(document, "reviewers", _by_severity, limit, cursor)


@router.get("/reviewers/{reviewer:path}", responses={200: {"model": Reviewer}}, response_model=None)
def reviewer(reviewer: Identifier, serving: Serving) -> Document:
    """All that is known of a reviewer."""
    return serving.answer(lambda snapshot: read_reviewers(snapshot, reviewer)[0], published=True)


@router.get("/agreement", responses={200: {"model": Agreement}}, response_model=None)
def agreement(serving: Serving, agent: AgentFilter = None) -> Document:
    """How far the reviewers of an agent, or of all, agree, and who can be compared with whom."""
    return serving.answer(lambda snapshot: read_agreement(snapshot, agent or FLEET), published=True)


@router.get("/effectiveness", responses={200: {"model": Effectiveness}}, response_model=None)
def effectiveness(serving: Serving, agent: AgentFilter = None, limit: Limit = USUAL, cursor: Cursor = None) -> Document:
    """The trials of all recommendations, or those of an agent: approval with them and without, and what was decided."""
    document = serving.answer(lambda snapshot: read_effects(snapshot, agent), published=True)
    return _paged(document, "trials", _by_trial, limit, cursor)


def _by_agent(agent: Document) -> Key:
    return (agent["agent_name"],)


def _by_confidence(pattern: Document) -> Key:
    confidence = pattern["confidence"]
    ranked = nulls_last(None if confidence is None else -confidence)
    return (*ranked, -pattern["sample_size"], pattern["type"], pattern["description"])


def _by_strength(finding: Document) -> Key:
    strength = finding["r"] if finding["r_shrunk"] is None else finding["r_shrunk"]
    ranked = nulls_last(None if strength is None else -abs(strength))
    return (not finding["published"], *ranked, finding["feature"], finding["aspect"])


def _by_severity(reviewer: Document) -> Key:
    return (*nulls_last(reviewer["severity"]["overall"]), reviewer["reviewer_id"])


def _by_trial(trial: Document) -> Key:
    return (trial["agent_name"], trial["pattern_id"], -trial["trial"])
