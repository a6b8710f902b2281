import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.agreement import ALL_EQUAL, NO_OVERLAP, NO_REVIEWS, ORDINAL_CODES, TOO_FEW, UNSTABLE, agreement
from feedback_pipeline.learning.alpha import interval_alpha, interval_sums, ordinal_alpha, ordinal_sums
from feedback_pipeline.learning.features import DECISION, FLEET
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.severity import estimate_severity
from feedback_pipeline_tests.learning.test_alpha import oracle

pytestmark = pytest.mark.slow

BOUNDS = {"*": (0.0, 10.0)}
START = pd.Timestamp("2026-01-01", tz="UTC")


def panel_from(
    output: np.ndarray,
    reviewer: np.ndarray,
    score: np.ndarray,
    *,
    agent: np.ndarray | None = None,
    stage: np.ndarray | str = "edit",
    decision: np.ndarray | str | None = "approve",
    day: np.ndarray | None = None,
    content: np.ndarray | None = None,
) -> Panel:
    """A panel from one row per review; a reviewer below 0 is unknown, `agent` and `content` are of each review's output."""
    frame = pd.DataFrame(
        {
            "agent_name": [f"a{code}" for code in (np.zeros_like(output) if agent is None else agent)],
            "execution_id": [f"x{code:06d}" for code in output],
            "content_id": [f"c{code:06d}" for code in (output if content is None else content)],
            "reviewer_id": pd.Series([f"r{code:05d}" if code >= 0 else None for code in reviewer], dtype="str"),
            "stage": stage,
            "decision": pd.Series(decision, index=range(len(output)), dtype="str"),
            "feedback_id": [f"f{row:07d}" for row in range(len(output))],
            "reviewed_at": START + pd.to_timedelta(np.zeros(len(output)) if day is None else day, unit="D"),
            "is_training_data": True,
        }
    )
    frame["reviewed_at"] = pd.to_datetime(frame["reviewed_at"], utc=True)
    scores = np.asarray(score, dtype=float).reshape(len(output), -1 if len(output) else 1)
    outputs = frame[["agent_name", "execution_id", "content_id"]].drop_duplicates(["agent_name", "execution_id"])
    return build_panel(frame, scores, tuple(f"q{k}" for k in range(scores.shape[1])), outputs)


def crossed_panel(seed: int = 0, outputs: int = 200, reviewers: int = 8, per_output: int = 3, severity_sd: float = 0.8) -> Panel:
    rng = np.random.default_rng(seed)
    output = np.repeat(np.arange(outputs), per_output)
    reviewer = np.concatenate([rng.permutation(reviewers)[:per_output] for _ in range(outputs)])
    severity = rng.normal(0, severity_sd, reviewers)
    quality = rng.normal(0, 1, outputs)
    score = 6 + (quality[output] + severity[reviewer])[:, None] + rng.normal(0, 0.9, (len(output), 2))
    score = np.round(2 * score) / 2
    decision = np.array(["reject", "request_changes", "approve"])[np.clip(np.round(score[:, 0] - 5), 0, 2).astype(int)]
    return panel_from(output, reviewer, score, agent=output % 4, decision=decision)


def found(panel: Panel, **options: int) -> pd.DataFrame:
    return agreement(panel, adjust(panel, BOUNDS), **options).set_index(["agent_name", "aspect"])


def row_of(result: pd.DataFrame, agent_name: str, aspect: str) -> Any:
    return result.loc[(agent_name, aspect)]


def test_agreement_of_a_panel_equals_the_library_per_agent_and_over_all() -> None:
    panel = crossed_panel()
    scores = pd.DataFrame({"output": panel.review_output, "reviewer": panel.review_reviewer, "agent": panel.review_agent})
    scores["q1"] = panel.scores[:, 1]
    scores[DECISION] = panel.reviews["decision"].map(ORDINAL_CODES)
    result = found(panel)
    assert result.index.get_level_values(1)[:4].tolist() == ["q0", "q1", "overall", DECISION]
    assert result.index.get_level_values(0).unique().tolist() == [FLEET, "a0", "a1", "a2", "a3"]
    for name, rows in {FLEET: scores, "a2": scores[scores["agent"] == 2]}.items():
        tables = {aspect: rows.pivot_table(index="reviewer", columns="output", values=aspect) for aspect in ("q1", DECISION)}
        for aspect, table in tables.items():
            expected = oracle(table.to_numpy(), "ordinal" if aspect == DECISION else "interval")
            row = row_of(result, name, aspect)
            assert row["alpha"] == pytest.approx(expected, abs=1e-12)
            assert row["ci_low"] < row["alpha"] < row["ci_high"]
            assert row["n_outputs"] == rows["output"].nunique()
            assert row["n_reviewers"] == rows["reviewer"].nunique()
            assert row["reason"] is None
    assert result["alpha_adjusted"].drop(DECISION, level=1).gt(result["alpha"].drop(DECISION, level=1)).all()
    assert result.xs(DECISION, level=1)["adjusted_reason"].notna().all()


def test_a_reviewer_counts_once_per_output_and_unknown_reviewers_do_not_count() -> None:
    output = np.repeat(np.arange(12), 4)
    reviewer = np.tile([0, 0, 1, -1], 12)
    stage = np.tile(["edit", "seo", "edit", "edit"], 12)
    score = np.random.default_rng(5).integers(1, 10, 48).astype(float)
    score[1] = np.nan  # one stage of the first output gives no score
    panel = panel_from(output, reviewer, score, stage=stage)
    table = score.reshape(12, 4)
    matrix = np.stack([np.nanmean(table[:, :2], axis=1), table[:, 2]])
    row = row_of(found(panel), FLEET, "q0")
    assert row["alpha"] == pytest.approx(oracle(matrix, "interval"), abs=1e-12)
    assert (row["n_outputs"], row["n_reviewers"]) == (12, 2)


def test_the_last_decision_of_a_reviewer_counts_because_a_mean_of_decisions_is_none() -> None:
    """Whoever rejects in one stage and approves in a later one has not asked for changes."""
    rng = np.random.default_rng(3)
    decision = np.array(["reject", "request_changes", "approve"], dtype=object)[rng.integers(0, 3, (40, 3))]
    decision[0, 1] = None  # the first stage is then the last with a decision
    output, reviewer, stage = np.repeat(np.arange(40), 3), np.tile([0, 0, 1], 40), np.tile(["a", "b", "a"], 40)
    panel = panel_from(output, reviewer, np.ones(120), stage=stage, day=np.tile([1, 2, 0], 40), decision=decision.ravel())
    codes = pd.DataFrame(decision).replace(ORDINAL_CODES).to_numpy(dtype=float)
    own = np.where(np.isnan(codes[:, 1]), codes[:, 0], codes[:, 1])
    row = row_of(found(panel), FLEET, DECISION)
    assert row["alpha"] == pytest.approx(oracle(np.stack([own, codes[:, 2]]), "ordinal"), abs=1e-12)


def test_one_output_and_nearly_equal_values() -> None:
    one = row_of(found(panel_from(np.zeros(2, dtype=int), np.arange(2), np.array([3.0, 5.0]))), FLEET, "q0")
    assert (one["alpha"], one["reason"], one["n_outputs"]) == (0.0, TOO_FEW, 1)
    score = np.full(60, 7.0)
    score[0] = 3.0  # most samples of the outputs hold no difference at all or this one alone
    odd = row_of(found(panel_from(np.repeat(np.arange(30), 2), np.tile([0, 1], 30), score)), FLEET, "q0")
    assert odd["reason"] == UNSTABLE
    assert np.isfinite(odd["alpha"])
    assert np.isnan(odd["ci_low"])


def test_a_review_of_an_execution_counts_for_each_of_its_agents_and_once_for_the_interval_of_all() -> None:
    once = crossed_panel(seed=9, outputs=60)
    n = len(once.review_output)
    shared = panel_from(
        np.tile(once.review_output, 2),
        np.tile(once.review_reviewer, 2),
        np.tile(once.scores[:, 0], 2),
        agent=np.repeat([0, 1], n),
    )
    result, single = found(shared), found(panel_from(once.review_output, once.review_reviewer, once.scores[:, 0]))
    expected = row_of(single, "a0", "q0")
    for name, n_outputs in (("a0", 60), ("a1", 60), (FLEET, 120)):
        row = row_of(result, name, "q0")
        assert row["n_outputs"] == n_outputs
        assert row["n_reviewers"] == 8
        assert row["alpha"] == pytest.approx(expected["alpha"], abs=0.01)
        assert row["ci_high"] - row["ci_low"] == pytest.approx(expected["ci_high"] - expected["ci_low"], rel=0.02)


def test_nobody_overlaps() -> None:
    row = row_of(found(panel_from(np.arange(30), np.arange(30) % 3, np.arange(30.0))), FLEET, "q0")
    assert row["reason"] == row["adjusted_reason"] == NO_OVERLAP == "undefined: no output has two reviewers"
    assert row[["alpha", "ci_low", "ci_high", "alpha_adjusted", "adjusted_ci_low"]].isna().all()
    assert (row["n_outputs"], row["n_reviewers"]) == (0, 3)


@pytest.mark.parametrize("value", [7.0, 0.0, 0.1, 1e6 / 3])
def test_equal_scores_are_undefined_neither_1_nor_0(value: float) -> None:
    panel = panel_from(np.repeat(np.arange(20), 2), np.tile([0, 1], 20), np.full(40, value))
    result = found(panel)
    assert result["alpha"].isna().all()
    assert set(result["reason"]) == {ALL_EQUAL}
    assert result["alpha_adjusted"].isna().all()


def test_rounding_is_not_disagreement() -> None:
    stage = np.tile(["a", "b", "c", "a"], 20)
    score = np.tile([0.1, 0.2, 0.3, 0.2], 20)  # the mean of three is .2 but for rounding
    panel = panel_from(np.repeat(np.arange(20), 4), np.tile([0, 0, 0, 1], 20), score, stage=stage)
    assert row_of(found(panel), FLEET, "q0")["reason"] == ALL_EQUAL


def test_an_agent_whose_scores_are_all_equal_is_undefined_after_adjustment_too() -> None:
    """Taking severities out of equal scores would leave nothing but the severities to disagree."""
    panel = crossed_panel(seed=2)
    panel.scores[panel.review_agent == 1] = 10.0
    row = row_of(found(panel), "a1", "q0")
    assert row["reason"] == row["adjusted_reason"] == ALL_EQUAL
    assert np.isnan(row["alpha_adjusted"])


def test_perfect_agreement_is_one_and_reversed_opinions_are_negative() -> None:
    output, reviewer = np.repeat(np.arange(20), 2), np.tile([0, 1], 20)
    assert row_of(found(panel_from(output, reviewer, output % 7)), FLEET, "q0")["alpha"] == pytest.approx(1.0)
    opposite = np.where(reviewer == 0, output % 7, 6 - output % 7)
    assert row_of(found(panel_from(output, reviewer, opposite)), FLEET, "q0")["alpha"] < -0.5


def test_few_outputs_have_an_alpha_without_an_interval() -> None:
    row = row_of(found(panel_from(np.repeat(np.arange(19), 2), np.tile([0, 1], 19), np.arange(38.0))), FLEET, "q0")
    assert np.isfinite(row["alpha"])
    assert np.isnan(row["ci_low"])
    assert row["reason"] == TOO_FEW


@pytest.mark.parametrize("reviewer", [0, -1])
def test_one_reviewer_and_only_unknown_reviewers(reviewer: int) -> None:
    result = found(panel_from(np.arange(20), np.full(20, reviewer), np.arange(20.0)))
    assert set(result["reason"]) == {NO_OVERLAP if reviewer == 0 else NO_REVIEWS}
    assert set(result["n_reviewers"]) == {1 if reviewer == 0 else 0}


def test_no_reviews_and_an_aspect_nobody_scored() -> None:
    empty = panel_from(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty((0, 1)))
    assert found(empty)["reason"].tolist() == [NO_REVIEWS] * 3
    panel = crossed_panel()
    panel.scores[panel.review_agent == 2, 1] = np.nan
    panel.reviews["decision"] = pd.Series(None, index=panel.reviews.index, dtype="str")
    result = found(panel)
    assert row_of(result, "a2", "q1")["reason"] == NO_REVIEWS
    assert row_of(result, FLEET, DECISION)["reason"] == NO_REVIEWS
    assert np.isfinite(row_of(result, FLEET, "q1")["alpha"])


def test_an_agent_does_not_depend_on_the_others_and_a_seed_repeats() -> None:
    panel = crossed_panel(seed=4)
    own = panel.review_agent == 3
    alone = panel_from(
        panel.review_output[own],
        panel.review_reviewer[own],
        panel.scores[own],
        agent=np.full(own.sum(), 3),
        decision=panel.reviews["decision"].to_numpy(dtype=object)[own],
    )
    columns = ["alpha", "ci_low", "ci_high", "n_outputs", "n_reviewers"]
    pd.testing.assert_frame_equal(found(alone).loc[["a3"], columns], found(panel).loc[["a3"], columns], rtol=1e-9)
    pd.testing.assert_frame_equal(found(panel, seed=1), found(panel, seed=1), check_exact=True)
    assert not found(panel, seed=1)["ci_low"].equals(found(panel, seed=2)["ci_low"])


@pytest.mark.slow
def test_the_interval_covers_the_true_alpha() -> None:
    population = crossed_panel(seed=100, outputs=20_000)
    true = row_of(found(population, rounds=10), FLEET, "q0")["alpha"]
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(120):
        chosen = np.isin(population.review_output, rng.choice(20_000, 60, replace=False))
        sample = panel_from(population.review_output[chosen], population.review_reviewer[chosen], population.scores[chosen, :1])
        row = row_of(found(sample, rounds=300), FLEET, "q0")
        hits.append(row["ci_low"] <= true <= row["ci_high"])
    assert 0.86 <= np.mean(hits) <= 0.99


def test_outputs_of_one_content_are_drawn_together() -> None:
    """Every output four times over, as four agents that deliver the same content: the interval must not halve."""
    once = crossed_panel(seed=6, outputs=80)
    n = len(once.review_output)
    fourfold = panel_from(
        np.tile(once.review_output, 4) + np.repeat(np.arange(4), n) * 80,
        np.tile(once.review_reviewer, 4),
        np.tile(once.scores[:, 0], 4),
        agent=np.repeat(np.arange(4), n),
        content=np.tile(once.review_output, 4),
    )

    def width(panel: Panel) -> float:
        row = row_of(found(panel), FLEET, "q0")
        return float(row["ci_high"] - row["ci_low"])

    assert width(fourfold) == pytest.approx(width(once), rel=0.1)


def test_many_outputs_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = crossed_panel(seed=7, outputs=3000)
    blocks = row_of(found(panel), FLEET, "q0")
    monkeypatch.setattr("feedback_pipeline.learning.agreement._MOST_BLOCKS", 5000)
    single = row_of(found(panel), FLEET, "q0")
    assert blocks["alpha"] == pytest.approx(single["alpha"], rel=1e-12)
    width = single["ci_high"] - single["ci_low"]
    assert blocks["ci_high"] - blocks["ci_low"] == pytest.approx(width, rel=0.2)


def test_row_order_changes_nothing() -> None:
    rng = np.random.default_rng(8)
    output, reviewer = np.repeat(np.arange(60), 3), np.tile([0, 1, 2], 60)
    score, order = rng.normal(6, 2, 180), rng.permutation(180)
    pd.testing.assert_frame_equal(
        found(panel_from(output, reviewer, score)),
        found(panel_from(output[order], reviewer[order], score[order])),
        check_exact=True,
    )


def test_without_severities_adjusting_raises_nothing() -> None:
    """Few reviews per reviewer and nobody stricter than the others: agreement must not look better than it is."""
    gains = []
    for seed in range(6):
        result = found(crossed_panel(seed=seed, outputs=150, reviewers=40, per_output=2, severity_sd=0.0), rounds=10)
        row = row_of(result, FLEET, "q0")
        gains.append(row["alpha_adjusted"] - row["alpha"])
    assert np.mean(gains) < 0.02


def test_ten_thousand_reviewers() -> None:
    rng = np.random.default_rng(9)
    output = np.repeat(np.arange(20_000), 2)
    reviewer = rng.integers(0, 10_000, 40_000)
    reviewer[:10_000] = np.arange(10_000)
    quality = rng.normal(0, 1, 20_000)
    panel = panel_from(output, reviewer, 6 + quality[output] + rng.normal(0, 1, 40_000), agent=output % 20)
    adjustment = adjust(panel, BOUNDS)
    row = row_of(agreement(panel, adjustment).set_index(["agent_name", "aspect"]), FLEET, "q0")
    assert row["n_reviewers"] == 10_000
    assert row["alpha"] == pytest.approx(0.5, abs=0.03)


def real_panel(folder: Path) -> Panel:
    """A panel straight from the files of an interchange folder whose every execution has one agent."""
    reviews = pd.read_parquet(folder / "review_feedback.parquet").rename(columns={"id": "feedback_id"})
    workflows = pd.read_parquet(folder / "content_review_workflows.parquet")[["id", "workflow_execution_id"]]
    performance = pd.read_parquet(folder / "agent_performance.parquet")[["execution_id", "agent_name"]]
    frame = reviews.merge(workflows, left_on="workflow_id", right_on="id").merge(
        performance, left_on="workflow_execution_id", right_on="execution_id"
    )
    frame["reviewed_at"] = pd.to_datetime(frame["reviewed_at"], utc=True)
    scores = pd.DataFrame([{a: entry["score"] for a, entry in json.loads(text).items()} for text in frame["quality_scores"]])
    outputs = frame[["agent_name", "execution_id", "content_id"]].drop_duplicates()
    return build_panel(frame, scores.to_numpy(dtype=float), tuple(scores.columns), outputs)


def test_real_reviews_summeval_alpha_equals_the_truth(shared_data: Path) -> None:
    folder = shared_data / "summeval_op"
    panel = real_panel(folder)
    truth = json.loads((folder / "truth.json").read_text())
    result = agreement(panel, adjust(panel, {"*": (1.0, 5.0)})).set_index(["agent_name", "aspect"])
    assert len(truth["aspects"]) == 7
    for k, aspect in enumerate(panel.aspects):
        row, expected = row_of(result, FLEET, aspect), truth["aspects"][aspect]
        assert row["alpha"] == pytest.approx(expected["alpha_interval"], abs=1e-3)
        assert row["ci_low"] < row["alpha"] < row["ci_high"] < row["alpha"] + 0.1
        assert row["alpha_adjusted"] > row["alpha"]
        assert (row["n_outputs"], row["n_reviewers"]) == (416, 3)
        ordinal = ordinal_alpha(ordinal_sums(panel.scores[:, k], panel.review_output, 416).sum(axis=0))
        assert ordinal == pytest.approx(expected["alpha_ordinal"], abs=1e-3)
    assert row_of(result, FLEET, "overall")["alpha"] == pytest.approx(truth["severity"]["overall_alpha_interval"], abs=1e-3)
    codes = panel.reviews["decision"].map(ORDINAL_CODES).to_numpy(dtype=float)
    matrix = np.full((3, 416), np.nan)
    matrix[panel.review_reviewer, panel.review_output] = codes
    assert row_of(result, FLEET, DECISION)["alpha"] == pytest.approx(oracle(matrix, "ordinal"), abs=1e-9)


@pytest.mark.slow
def test_real_reviews_severities_of_one_half_raise_the_agreement_of_the_other(shared_data: Path) -> None:
    panel = real_panel(shared_data / "summeval_op")
    overall = adjust(panel, {"*": (1.0, 5.0)}).raw[:, -1]
    gains = []
    for seed in range(200):
        learned = (np.random.default_rng(seed).permutation(416) < 208)[panel.review_output]
        severity = estimate_severity(
            panel.review_agent[learned], panel.review_output[learned], panel.review_reviewer[learned], overall[learned], 3
        )
        output, held = panel.review_output[~learned], overall[~learned]
        adjusted = held - severity.value[panel.review_reviewer[~learned]]
        before, after = (interval_alpha(interval_sums(values, output, 416).sum(axis=0)) for values in (held, adjusted))
        gains.append(after - before)
    assert np.mean(gains) >= 0.08
    assert np.min(gains) > 0


def test_real_reviews_wmt_has_no_agreement_to_speak_of(shared_data: Path) -> None:
    panel = real_panel(shared_data / "wmt_ted_ende")
    result = agreement(panel, adjust(panel, {"*": (-25.0, 0.0)}))
    assert set(result["reason"]) == {"undefined: no output has two reviewers"}
    assert result[["alpha", "ci_low", "ci_high", "alpha_adjusted"]].isna().all(axis=None)
    assert row_of(result.set_index(["agent_name", "aspect"]), FLEET, "mqm")["n_reviewers"] == 4
