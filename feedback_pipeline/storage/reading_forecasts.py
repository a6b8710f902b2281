"""What readers of forecasts get, from one REPEATABLE READ snapshot: the champion's, of outputs that nobody has reviewed yet."""

from collections.abc import Sequence
from typing import Any, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Literal

from feedback_pipeline.errors import NotFound, NothingLearned
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.published_forecasts import AVERAGE_REVIEWER
from feedback_pipeline.storage.reading import Document, champion_document
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns
from feedback_pipeline.storage.unreviewed import finished_review, is_execution, workflows_of

LOWEST_APPROVAL: Final = "lowest P"
RANDOM: Final = "random"
_FORECASTS: Final = SQL(
    "SELECT agent_name, execution_id, nullif(reviewer_id, '') AS reviewer_id, score, low, high, p_approve, abstain, reason,"
    " model_version, made_at FROM quality_forecasts f WHERE model_version = {version} AND {chosen} AND NOT {reviewed}"
    ' ORDER BY p_approve NULLS LAST, agent_name COLLATE "C", execution_id COLLATE "C", reviewer_id COLLATE "C"'
)
_OF_THE_QUEUE: Final = ("agent_name", "execution_id", "score", "low", "high", "p_approve", "abstain", "reason", "made_at")
_MOST_NAMED: Final = 20
NO_CHAMPION: Final = (
    "the quality predictor has no champion yet, so nothing is forecast; run `feedback-pipeline learn --all`, "
    "which trains one from the reviews that have scores"
)


def read_forecasts(
    database: Database, agent_name: str | None = None, execution_id: str | None = None, reviewers: Sequence[str] = ()
) -> Document:
    """What the champion expects of the outputs without a review.

    Args:
        database: A migrated database.
        agent_name: Only of this agent.
        execution_id: Only of this execution.
        reviewers: Also what it expects of these reviewers, where that is stored.

    Returns:
        agent_name, execution_id, champion, forecasts (least likely approvals first; reviewer_id None = the average reviewer),
        reason (why there is none, or none of some of the reviewers).

    Raises:
        NothingLearned: there is no champion.
        NotFound: there is no such agent or execution.
    """
    with database.snapshot() as connection:
        champion = known_champion(connection)
        columns = source_columns(connection)
        chosen = _chosen(agent_name, execution_id, [AVERAGE_REVIEWER, *reviewers])
        forecasts = _read(connection, columns, champion["model_version"], chosen)
        reason = None
        if not forecasts:
            reason = _why_none(connection, columns, agent_name, execution_id) or _NOT_YET.format(champion["model_version"])
    said = {forecast["reviewer_id"] for forecast in forecasts}
    unsaid = [reviewer for reviewer in dict.fromkeys(reviewers) if reviewer not in said]
    if forecasts and unsaid:
        reason = f"no forecast for {', '.join(unsaid)} is stored"
    return {
        "agent_name": agent_name,
        "execution_id": execution_id,
        "champion": champion,
        "forecasts": forecasts,
        "reason": reason,
    }


def read_queue(database: Database, seed: int, limit: int) -> Document:
    """Which outputs to read first.

    Args:
        database: A migrated database.
        seed: Of the random places.
        limit: How many outputs will be read.

    Returns:
        champion, n_outputs (without a review, with a forecast), random_share, queue (at most `limit` rows in the order of
        reading, with place, why = LOWEST_APPROVAL or RANDOM, and propensity = the probability to be among them), reason (why it
        is empty).

    Raises:
        NothingLearned: there is no champion.
    """
    import numpy as np

    from feedback_pipeline.learning.review_queue import BY_CHANCE, RANDOM_SHARE, lowest_approval, review_queue

    document = read_forecasts(database)
    rows = document["forecasts"]
    # A forecast that abstains says nothing: the output comes up by chance only.
    p = np.array([np.nan if row["abstain"] or row["p_approve"] is None else row["p_approve"] for row in rows], dtype=np.float64)
    names = np.array([f"{row['agent_name']}\x1f{row['execution_id']}" for row in rows], dtype=object)
    queue = review_queue(lowest_approval(p), names, seed, limit)
    first = np.argsort(queue.rank)[:limit]
    return {
        "champion": document["champion"],
        "n_outputs": len(rows),
        "random_share": RANDOM_SHARE,
        "queue": [
            {"place": place}
            | {key: rows[row][key] for key in _OF_THE_QUEUE}
            | {
                "why": RANDOM if queue.chosen_by[row] == BY_CHANCE else LOWEST_APPROVAL,
                "propensity": float(queue.propensity[row]),
            }
            for place, row in enumerate(first.tolist(), start=1)
        ],
        "reason": document["reason"],
    }


def known_champion(connection: Connection) -> Document:
    """The champion of the quality predictor, as `champion_document`.

    Raises:
        NothingLearned: there is none.
    """
    champion = champion_document(connection)
    if champion is None:
        raise NothingLearned(NO_CHAMPION)
    return champion


_NOT_YET: Final = (
    "model {} has made no forecast for it yet: the next `feedback-pipeline learn` makes those of the outputs in its window"
)


def _chosen(agent_name: str | None, execution_id: str | None, reviewers: Sequence[str]) -> Composable:
    conditions = [SQL("reviewer_id = ANY({}::text[])").format(Literal(list(reviewers)))]
    wanted = {"agent_name": agent_name, "execution_id": execution_id}
    conditions += [SQL("{} = {}").format(SQL(name), Literal(value)) for name, value in wanted.items() if value is not None]
    return SQL(" AND ").join(conditions)


def _read(connection: Connection, columns: SourceColumns, version: int, chosen: Composable) -> list[dict[str, Any]]:
    query = _FORECASTS.format(
        version=Literal(version),
        chosen=chosen,
        reviewed=finished_review(columns, workflows_of(columns, SQL("f.execution_id"))),
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
    return [row | {"made_at": row["made_at"].isoformat()} for row in rows]


def _why_none(connection: Connection, columns: SourceColumns, agent_name: str | None, execution_id: str | None) -> str | None:
    """Why there is no forecast, as far as the champion has nothing to do with it.

    Raises:
        NotFound: there is no such agent or execution.
    """
    if execution_id is not None:
        own = ("p", "agent_performance", "execution_id")
        run = SQL(
            "EXISTS (SELECT FROM agent_performance p WHERE {} AND {} = 'success' AND ({agent}::text IS NULL OR {} = {agent}))"
        ).format(
            is_execution(columns, own, execution_id),
            columns.text("p", "agent_performance", "status"),
            columns.text("p", "agent_performance", "agent_name"),
            agent=Literal(agent_name),
        )
        if not _holds(connection, run):
            whose = "" if agent_name is None else f" of agent {agent_name!r}"
            raise NotFound(f"there is no successful run{whose} in execution {execution_id!r}; check the id")
        workflow = ("w", "content_review_workflows", "workflow_execution_id")
        if _holds(connection, finished_review(columns, is_execution(columns, workflow, execution_id))):
            return "it has been reviewed"
    elif agent_name is not None:
        ran = SQL("EXISTS (SELECT FROM agent_performance p WHERE {} = {})")
        if not _holds(connection, ran.format(columns.text("p", "agent_performance", "agent_name"), Literal(agent_name))):
            query = "SELECT agent_name FROM agent_learning_state ORDER BY 1 LIMIT %s"
            known = ", ".join(name for (name,) in connection.execute(query, (_MOST_NAMED,)))
            raise NotFound(f"no agent {agent_name!r} has run; known agents: {known or 'none'}")
    return None


def _holds(connection: Connection, condition: Composable) -> bool:
    return connection.execute(SQL("SELECT {}").format(condition)).fetchone() == (True,)
