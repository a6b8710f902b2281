"""Who rated which output: reviews of one reviewer in several stages are one rating."""

from dataclasses import dataclass

import numpy as np

from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel, group_sums


@dataclass(frozen=True)
class Ratings:
    """One rating per output and known reviewer, sorted by output and reviewer.

    Reviews of unknown reviewers are left out: nobody knows whether two of them are two people.

    Attributes:
        output: Output code (P,).
        reviewer: Reviewer code (P,).
        last_review: Row of the rating's last review in the panel (P,).
        rows: Rows of the reviews behind the ratings (Q,), those of a rating in the order of their time.
        rating: Rating of each of these reviews (Q,), ascending.
    """

    output: Ints
    reviewer: Ints
    last_review: Ints
    rows: Ints
    rating: Ints

    @classmethod
    def of(cls, panel: Panel) -> "Ratings":
        """Group the reviews of a panel by output and reviewer."""
        known = np.flatnonzero(panel.review_reviewer != UNKNOWN_REVIEWER)
        moment = panel.reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)[known]
        rows = known[np.lexsort((moment, panel.review_reviewer[known], panel.review_output[known]))]
        output, reviewer = panel.review_output[rows], panel.review_reviewer[rows]
        first = np.ones(len(rows), dtype=bool)
        first[1:] = (output[1:] != output[:-1]) | (reviewer[1:] != reviewer[:-1])
        last = np.append(first[1:], True)[: len(rows)]
        return cls(output[first], reviewer[first], rows[last], rows, np.cumsum(first) - 1)

    def mean(self, values: Floats) -> Floats:
        """Mean of what each rating's reviews gave, of values per review (M,); NaN where they gave none (P,)."""
        value = values[self.rows]
        given = ~np.isnan(value)
        count = np.bincount(self.rating[given], minlength=len(self.output))
        total = group_sums(self.rating[given], value[given], len(self.output))
        mean: Floats = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
        return mean

    def last(self, values: Floats) -> Floats:
        """The latest of what each rating's reviews gave, of values per review (M,); NaN where they gave none (P,)."""
        value = values[self.rows]
        given = ~np.isnan(value)
        last = np.full(len(self.output), np.nan)
        last[self.rating[given]] = value[given]  # of several the last one stays
        return last
