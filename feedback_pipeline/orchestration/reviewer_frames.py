"""The frames of preference_models as Dagster may show them: reviewers by number, no id of anybody or anything.

Reviewer n is Rn in every table, picture and check of a learning run: the n-th of its reviewer ids in order of the alphabet.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from feedback_pipeline.learning.features import DECISION, OVERALL

if TYPE_CHECKING:
    import pandas as pd

_BY_REVIEWER: Final = ("models", "severities", "components", "months")
SHOWN: Final = (*_BY_REVIEWER, "agreement", "bridges")
_STANDARD: Final = ("s50", "s80", "se")


def numbered(frames: "Mapping[str, pd.DataFrame]") -> "dict[str, pd.DataFrame]":
    """The frames about reviewers with a number (1..R) in column `reviewer` instead of the id.

    Args:
        frames: those in SHOWN, of the artifact; others are left out.
    """
    import pandas as pd

    order = pd.Index(sorted(frames["models"]["reviewer_id"]))
    shown = {"agreement": frames["agreement"], "bridges": frames["bridges"][["component"]]}
    for name in _BY_REVIEWER:
        frame = frames[name]
        shown[name] = frame.drop(columns="reviewer_id").assign(reviewer=order.get_indexer(pd.Index(frame["reviewer_id"])) + 1)
    return shown


def standards(models: "pd.DataFrame") -> "pd.DataFrame":
    """Quality standards out of their documents.

    Returns:
        One row per reviewer and aspect: reviewer, aspect, s50, s80, se (points, NaN where undefined), censored, reason.
    """
    import pandas as pd

    rows = [
        {"reviewer": reviewer, "aspect": aspect, **standard}
        for reviewer, text in zip(models["reviewer"], models["quality_standards"], strict=True)
        for aspect, standard in json.loads(text).items()
    ]
    frame = pd.DataFrame(rows, columns=["reviewer", "aspect", *_STANDARD, "censored", "reason"])
    return frame.astype(dict.fromkeys(_STANDARD, float))


def drifts(models: "pd.DataFrame") -> "pd.DataFrame":
    """Whether severity changes over time, out of the documents: reviewer, drifted (None = untested), q_value, spread, reason."""
    import pandas as pd

    documents = [json.loads(text)["drift"] for text in models["severity"]]
    frame = pd.DataFrame(documents, columns=["drifted", "q_value", "spread", "reason"], dtype=object)
    return frame.assign(reviewer=models["reviewer"].to_numpy()).astype({"q_value": float, "spread": float})


def drifters(models: "pd.DataFrame") -> list[int]:
    """Reviewers whose severity changes beyond chance, the clearest change first."""
    drift = drifts(models)
    return drift[drift["drifted"].eq(True)].sort_values(["q_value", "reviewer"])["reviewer"].tolist()


def rank(aspect: str) -> tuple[int, str]:
    """A sort key of aspects: by name, `overall` and `decision` last."""
    return ((OVERALL, DECISION).index(aspect) + 1 if aspect in (OVERALL, DECISION) else 0), aspect
