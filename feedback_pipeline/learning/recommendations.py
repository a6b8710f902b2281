"""What to do about it: a short list for every agent, the best supported and most useful first.

A recommendation needs q <= .05 in one family over all candidates of the agent, of all kinds, 70 % confidence in its sign, an
interval of its effect above 0, and a worth of a twentieth of a standard deviation of the outcome. One thing is recommended once:
what speaks for the same feature is its evidence, what speaks against it is resolved by strength and said. At most ten; none is
better than a weak one.
"""

import math
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import pandas as pd

from feedback_pipeline.learning import recommendation_documents as documents
from feedback_pipeline.learning.agents import INSUFFICIENT, SUCCESS
from feedback_pipeline.learning.joint_family import JointFamily
from feedback_pipeline.learning.pattern_frame import QUALITY_THRESHOLD
from feedback_pipeline.learning.pattern_sentences import noun
from feedback_pipeline.learning.recommendation_supports import (
    CATEGORY,
    CONTRAST,
    CORRELATION,
    TERM,
    THRESHOLD,
    Learned,
    supports,
)
from feedback_pipeline.learning.reviewer_contradictions import contradicting_reviewers, reviewer_labels
from feedback_pipeline.learning.strategy import FAMILIES, LENGTH, LENGTH_BAND

MOST: Final = 10
MAX_Q: Final = 0.05
MIN_GAIN: Final = 0.05
MIN_CONFIDENCE: Final = 0.7  # from which agents apply what was learned
_NUMERIC: Final = (CORRELATION, CONTRAST, THRESHOLD)
_MOST_TERMS: Final = 3
_MOST_ASKS: Final = 2
_SAME: Final = 0.8  # |rank correlation| from which two features are one piece of advice
COLUMNS: Final = (
    *("agent_name", "rank", "identity", "kind", "feature", "direction", "target", "expected_effect", "confidence", "q_value"),
    *("gain", "pattern_keys", "n_contents", "n_reviewers", "text", "action", "conflicts"),
    "interval",
)

Record = dict[Any, Any]


def recommend(learned: Learned) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Recommendations of every agent.

    Returns:
        recommendations: Rows of `COLUMNS`: rank from 1, identity (the meaning without its numbers), kind, feature (None for a
            word), direction (more, less, prefer, avoid, ask), target, expected_effect and action (documents), confidence (1 -
            lfsr of what decides), q_value (joint), gain (standard deviations of the outcome), pattern_keys ([pattern_type,
            description] of all that speaks for it), n_contents, n_reviewers, text, conflicts (texts), interval ([low, high]
            within which a bound learned later is the same target, else None).
        states: agent_name, status (insufficient_data where nothing could be tested), reason (why there is no recommendation,
            else None), published, candidates (tests in the family).
    """
    family = learned.family()
    published = supports(learned)
    passes = (published["q_value"] <= MAX_Q) & (published["gain"] >= MIN_GAIN) & (published["confidence"] >= MIN_CONFIDENCE)
    found = published[passes]
    found = found.sort_values(["agent_name", "strength", "source", "description"], ascending=[True, False, True, True])
    builder = _Builder(learned, found, published)
    listed = [builder.of_agent(list(own)) for _, own in groupby(found.to_dict("records"), itemgetter("agent_name"))]
    asks = _asks(learned, listed)
    whole = [(chosen + asks.get(chosen[0]["agent_name"], []))[:MOST] for chosen in listed if chosen]
    records = [record | {"rank": place} for chosen in whole for place, record in enumerate(chosen, start=1)]
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    return frame, _states(learned, family, frame)


class _Builder:
    """Puts the recommendations of one agent together; lookups are made once for all."""

    def __init__(self, learned: Learned, found: pd.DataFrame, published: pd.DataFrame) -> None:
        rows = {source: own["row"].tolist() for source, own in found.groupby("source")}
        of_patterns = [row for source in (CONTRAST, THRESHOLD, TERM) for row in rows.get(source, [])]
        cuts = learned.patterns[
            (learned.patterns["pattern_type"] == QUALITY_THRESHOLD) & (learned.patterns["unit"] == "approval")
        ]
        lifts = cuts[["agent_name", "feature", "direction", "effect", "ci_low", "ci_high", "cut"]].assign(
            decision_point=cuts["decision_point"].astype(object).where(cuts["decision_point"].notna(), None)
        )
        single = learned.segments[learned.segments["family"].isin(FAMILIES)]
        self._findings = learned.findings.loc[rows.get(CORRELATION, [])].to_dict("index")
        self._patterns = learned.patterns.loc[of_patterns].to_dict("index")
        self._spreads = learned.spreads.set_index(["agent_name", "aspect"]).to_dict("index")
        self._lifts = {(row["agent_name"], row["feature"], row["decision_point"]): row for row in lifts.to_dict("records")}
        # What is published speaks against a recommendation even where it is not certain enough to be one.
        self._published: dict[tuple[str, str], list[Record]] = {}
        for row in published[published["source"].isin(_NUMERIC)].sort_values(["source", "description"]).to_dict("records"):
            self._published.setdefault((row["agent_name"], row["feature"]), []).append(row)
        self._segments: dict[tuple[str, str], list[Record]] = {}
        for row in single.to_dict("records"):
            self._segments.setdefault((row["agent_name"], row["family"]), []).append(row)
        self._pairs = {
            (row["agent_name"], *sorted((row["feature"], row["other"]))): row["rho"] for row in learned.pairs.to_dict("records")
        }

    def of_agent(self, own: list[Record]) -> list[Record]:
        """The list of one agent, from its supports in order of strength."""
        features = list(self._features(own))
        # A band of lengths is the number of words again.
        of_length = any(one["feature"] == LENGTH for one in features)
        categories = [one for one in self._categories(own) if not (of_length and one["feature"] == LENGTH_BAND)]
        chosen = [*features, *self._terms(own), *categories]
        return self._apart([record for record in chosen if record["sure"]])[:MOST]

    def _features(self, own: list[Record]) -> Iterator[Record]:
        for feature, about in _by(own, "feature", _NUMERIC).items():
            # The strongest support stands first.
            direction = about[0]["direction"]
            same = [row for row in about if row["direction"] == direction]
            lead = min(same, key=_priority)
            made = self._numeric(lead)
            if made is not None:
                against = [row for row in self._published[lead["agent_name"], feature] if row["direction"] == -direction]
                conflicts = list(dict.fromkeys(_objection(row, feature) for row in against))
                yield self._record(lead, made, same, conflicts)

    def _numeric(self, lead: Record) -> documents.Document | None:
        if lead["source"] == THRESHOLD:
            return documents.of_threshold(lead, self._patterns[lead["row"]])
        if lead["source"] == CORRELATION:
            return documents.of_correlation(lead, self._findings[lead["row"]], self._spreads[lead["agent_name"], lead["aspect"]])
        lift = self._lifts.get((lead["agent_name"], lead["feature"], lead["decision_point"]))
        # A cut the other way round: the feature rises and falls, and there is no side to advise.
        return (
            None
            if lift is None or lift["direction"] != lead["direction"] or math.isnan(lift["cut"])
            else documents.of_contrast(lead, self._patterns[lead["row"]], lift)
        )

    def _terms(self, own: list[Record]) -> Iterator[Record]:
        # Words of one phrase stand in the same texts: one of them says it.
        words: dict[tuple[Any, ...], list[Record]] = {}
        for row in own:
            if row["source"] == TERM:
                words.setdefault((row["pattern_type"], row["aspect"], row["term"]), []).append(row)
        phrases: dict[tuple[Any, ...], list[Record]] = {}
        for same in words.values():
            phrases.setdefault((same[0]["pattern_type"], same[0]["p_value"], same[0]["gain"]), same)
        for same in list(phrases.values())[:_MOST_TERMS]:
            yield self._record(same[0], documents.of_term(same[0], self._patterns[same[0]["row"]]), same, [])

    def _categories(self, own: list[Record]) -> Iterator[Record]:
        for family, (lead, *_) in _by(own, "feature", (CATEGORY,)).items():
            beside = self._segments[lead["agent_name"], family]
            segment = next(one for one in beside if one["segment"] == lead["term"])
            raw, n = ("score_raw", "n_scored") if lead["outcome"] == "score" else ("approval_raw", "n")
            known = [one for one in beside if one[n]]
            mean = sum(one[raw] * one[n] for one in known) / sum(one[n] for one in known)
            yield self._record(lead, documents.of_category(lead, segment, mean), [], [])

    def _record(self, lead: Record, made: documents.Document, same: list[Record], conflicts: list[str]) -> Record:
        if lead["source"] == TERM:
            parts = [made["kind"], lead["term"], made["target"]["in"], *([f"aspect={lead['aspect']}"] if lead["aspect"] else [])]
        else:
            parts = [made["kind"], lead["feature"], lead["term"] if lead["source"] == CATEGORY else made["direction"]]
        parts += [f"decision_point={lead['decision_point']}"] if lead["decision_point"] is not None else []
        return made | {
            "agent_name": lead["agent_name"],
            "identity": " | ".join(parts),
            "feature": None if lead["source"] == TERM else lead["feature"],
            "confidence": float(lead["confidence"]),
            "q_value": float(lead["q_value"]),
            "gain": float(lead["gain"]),
            "pattern_keys": [[row["pattern_type"], row["description"]] for row in same],
            "n_contents": int(lead["n_contents"]),
            "n_reviewers": int(lead["n_reviewers"]),
            "conflicts": conflicts,
            "strength": max((row["strength"] for row in same), default=lead["strength"]),
            "sign": float(lead["direction"]),
        }

    def _apart(self, records: list[Record]) -> list[Record]:
        """In order of strength; a feature that goes with a stronger one is its evidence, or a conflict where they pull apart."""
        kept: list[Record] = []
        for record in sorted(records, key=lambda one: (-one["strength"], one["identity"])):
            leader, rho = self._stronger(record, kept)
            if leader is not None and abs(rho) >= _SAME and rho * leader["sign"] * record["sign"] > 0:
                leader["pattern_keys"] = leader["pattern_keys"] + record["pattern_keys"]
                continue
            if leader is not None and rho * leader["sign"] * record["sign"] < 0:
                own, other = noun(record["feature"]), noun(leader["feature"])
                # By name: not all that is ranked here is published.
                said = f"pulls against the advice on {other}: {own} and {other} go together (rank correlation {rho:+.2f})"
                record["conflicts"] = [*record["conflicts"], said]
            kept.append(record)
        return kept

    def _stronger(self, record: Record, kept: list[Record]) -> tuple[Record | None, float]:
        """The kept recommendation whose feature goes most with this one's."""
        found: tuple[Record | None, float] = (None, 0.0)
        for other in kept:
            if record["feature"] is not None and other["feature"] is not None:
                rho = self._pairs.get((record["agent_name"], *sorted((record["feature"], other["feature"]))), 0.0)
                found = max(found, (other, rho), key=lambda pair: abs(pair[1]))
        return found


def _by(own: list[Record], name: str, sources: tuple[str, ...]) -> dict[str, list[Record]]:
    """The supports of some sources by their feature or term, each in order of strength, the strongest first."""
    found: dict[str, list[Record]] = {}
    for row in own:
        if row["source"] in sources:
            found.setdefault(row[name], []).append(row)
    return found


def _priority(row: Record) -> tuple[bool, bool, bool, float]:
    """What decides: a cut, since it says how much; else what holds for all decision points; else scores; else the strongest."""
    return row["source"] != THRESHOLD, row["decision_point"] is not None, row["source"] != CORRELATION, -row["strength"]


def _objection(row: Record, feature: str) -> str:
    way = "higher" if row["direction"] > 0 else "lower"
    what = f"higher {row['aspect']}" if row["source"] == CORRELATION else "approval"
    point = f" at {row['decision_point']}" if row["decision_point"] is not None else ""
    return f"{what} goes with {way} {noun(feature)}{point}"


def _asks(learned: Learned, listed: list[list[Record]]) -> dict[str, list[Record]]:
    """Whom to ask, by agent; the recommendations they contradict say so."""
    numeric = {
        (one["agent_name"], one["feature"]): one
        for chosen in listed
        for one in chosen
        if one["feature"] is not None and one["feature"] not in FAMILIES
    }
    recommended = pd.DataFrame(
        [(*key, one["sign"]) for key, one in numeric.items()], columns=["agent_name", "feature", "direction"]
    )
    found = contradicting_reviewers(recommended, learned.shares, learned.models)
    labels = reviewer_labels(learned.models["reviewer_id"])
    asks: dict[str, list[Record]] = {}
    for row in found.sort_values(["share", "reviewer_id", "feature"], ascending=[False, True, True]).to_dict("records"):
        against, own = numeric[row["agent_name"], row["feature"]], asks.setdefault(row["agent_name"], [])
        if len(own) < _MOST_ASKS:
            against["conflicts"] = [*against["conflicts"], f"{labels[row['reviewer_id']]} wants the opposite"]
            own.append(_ask(row, against, labels[row["reviewer_id"]]))
    return asks


def _ask(row: Record, against: Record, reviewer: str) -> Record:
    made = documents.of_contradiction(row, reviewer)
    return (
        made
        | {name: against[name] for name in ("agent_name", "feature", "n_contents", "n_reviewers")}
        | {
            "identity": documents.question_identity(row["feature"], row["reviewer_id"]),
            "confidence": float(row["confidence"]),
            "q_value": float(row["q_value"]),
            "gain": None,
            "pattern_keys": [],
            "conflicts": [],
        }
    )


def _states(learned: Learned, family: JointFamily, recommendations: pd.DataFrame) -> pd.DataFrame:
    """Every agent that was learned from."""
    published = recommendations.groupby("agent_name").size()
    rows = []
    for agent in sorted(set(learned.agents)):
        size, n = family.size(agent), int(published.get(agent, 0))
        nothing = f"none of {size:,} candidates passes all that a recommendation needs" if size else "nothing could be tested"
        reason = None if n else nothing
        rows.append((agent, SUCCESS if size else INSUFFICIENT, reason, n, size))
    return pd.DataFrame(rows, columns=["agent_name", "status", "reason", "published", "candidates"])
