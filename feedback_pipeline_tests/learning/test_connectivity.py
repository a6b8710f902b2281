import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from feedback_pipeline.learning.connectivity import Connectivity, connectivity
from feedback_pipeline.learning.panel import Panel
from feedback_pipeline.learning.severity import FIXED_OUTPUTS, Severity, estimate_severity
from feedback_pipeline_tests.learning.test_agreement import crossed_panel, panel_from, real_panel

N_GROUPS, SIZE = 8, 3


def fixed_groups(documents: int, bridges: float, seed: int) -> tuple[np.ndarray, ...]:
    """Groups of three over different documents: agent, output, reviewer, score, true severity.

    The first group is strict and has the easy documents; groups differ in difficulty. In the given share of the documents
    one of the three reviewers comes from another group.
    """
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 0.6, N_GROUPS * SIZE)
    truth[:SIZE] -= 1.2
    ease = rng.normal(0, 1.2, N_GROUPS)
    ease[0] = 2.0
    n = N_GROUPS * documents
    group = np.repeat(np.arange(N_GROUPS), documents)
    quality = ease[group] + rng.normal(0, 0.5, n)
    agent = rng.integers(0, 10, n)
    reviewer = np.repeat(group * SIZE, SIZE) + np.tile(np.arange(SIZE), n)
    crossing = np.flatnonzero(rng.random(n) < bridges)
    guest = (group[crossing] + rng.integers(1, N_GROUPS, len(crossing))) % N_GROUPS
    reviewer[crossing * SIZE] = guest * SIZE + rng.integers(0, SIZE, len(crossing))
    output = np.repeat(np.arange(n), SIZE)
    score = 6 + quality[output] + truth[reviewer] + rng.normal(0, 0.7, len(output))
    return agent[output], output, reviewer, score, truth


def ranks_of(documents: int, bridges: float, seed: int) -> tuple[Severity, float, float, float]:
    """The estimate and its rank correlation with the truth: of severities, of raw means, of severities within groups."""
    agent, output, reviewer, score, truth = fixed_groups(documents, bridges, seed)
    severity = estimate_severity(agent, output, reviewer, score, len(truth))
    raw = np.bincount(reviewer, weights=score) / np.bincount(reviewer)
    value, true = severity.value.reshape(-1, SIZE), truth.reshape(-1, SIZE)
    centred = [(part - part.mean(axis=1, keepdims=True)).ravel() for part in (value, true)]
    return (
        severity,
        stats.spearmanr(severity.value, truth).statistic,
        stats.spearmanr(raw, truth).statistic,
        stats.spearmanr(*centred).statistic,
    )


@pytest.mark.parametrize("documents", [300, 1000])
def test_bridges_between_fixed_groups_make_severities_comparable(documents: int) -> None:
    """At 200 documents a group even somebody who knows the groups and all variances comes to .951 on average, at 100 to .93."""
    found = [ranks_of(documents, bridges=0.05, seed=seed) for seed in range(12)]
    assert np.mean([raw for _, _, raw, _ in found]) < 0.75
    assert all(severity.comparable.all() for severity, *_ in found)
    assert np.mean([rank for _, rank, _, _ in found]) >= 0.95
    assert np.mean([within for *_, within in found]) >= 0.95


@pytest.mark.parametrize("documents", [50, 100])
def test_fixed_groups_are_seen_through_from_few_documents(documents: int) -> None:
    found = [ranks_of(documents, bridges=0.05, seed=seed) for seed in range(12)]
    assert all(severity.method == FIXED_OUTPUTS for severity, *_ in found)
    assert np.mean([rank for _, rank, _, _ in found]) >= 0.80
    assert np.mean([within for *_, within in found]) >= 0.95


def test_without_bridges_severities_hold_within_groups_and_the_groups_are_named() -> None:
    for seed in range(1, 7):
        severity, overall, _, within = ranks_of(300, bridges=0.0, seed=seed)
        assert within >= 0.95
        assert overall < 0.9
        assert not severity.comparable.any()
    agent, output, reviewer, score, _ = fixed_groups(300, 0.0, seed=1)
    found = connectivity(panel_from(output, reviewer, score, agent=agent))
    names = [f"r{code:05d}" for code in range(N_GROUPS * SIZE)]
    assert found.components == tuple(tuple(names[start : start + SIZE]) for start in range(0, len(names), SIZE))
    assert not found.connected


def with_bridges(panel: Panel, found: Connectivity) -> Connectivity:
    """The panel's connectivity once the proposed reviews have been given."""
    names = panel.outputs["agent_name"] + "/" + panel.outputs["execution_id"]
    proposed = found.bridges["agent_name"] + "/" + found.bridges["execution_id"]
    output = np.array([names.tolist().index(name) for name in proposed], dtype=int)
    reviewer = np.searchsorted(panel.reviewers, found.bridges["reviewer_id"].to_numpy(dtype=object))
    outputs = np.concatenate([panel.review_output, output])
    reviewers = np.concatenate([panel.review_reviewer, reviewer])
    return connectivity(panel_from(outputs, reviewers, np.ones(len(outputs)), agent=panel.output_agent[outputs]))


def test_the_proposed_reviews_connect_everybody_and_none_is_superfluous() -> None:
    agent, output, reviewer, score, _ = fixed_groups(20, 0.0, seed=2)
    panel = panel_from(output, reviewer, score, agent=agent)
    found = connectivity(panel)
    assert len(found.bridges) == N_GROUPS - 1
    assert found.bridges["component"].tolist() == list(range(1, N_GROUPS))
    assert with_bridges(panel, found).connected
    for left_out in range(N_GROUPS - 1):
        fewer = Connectivity(found.components, found.bridges.drop(index=left_out))
        assert not with_bridges(panel, fewer).connected


def test_largest_component_first_then_by_name_and_bridges_start_from_its_latest_output() -> None:
    #       alone   pair with one review each   three in a chain
    output = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    reviewer = np.array([0, 1, 2, 3, 4, 4, 5, 4, 5, 1])
    day = np.array([90, 50, 51, 1, 2, 3, 40, 5, 6, 99])
    found = connectivity(panel_from(output, reviewer, np.ones(10), day=day))
    assert found.components == (("r00003", "r00004", "r00005"), ("r00001", "r00002"), ("r00000",))
    assert found.bridges.to_dict("list") == {
        "agent_name": ["a0", "a0"],
        "execution_id": ["x000003", "x000004"],  # the latest two outputs of the three
        "reviewer_id": ["r00001", "r00000"],  # r00001 reviewed more than r00002
        "component": [1, 2],
    }


def test_more_bridges_than_outputs_share_outputs() -> None:
    found = connectivity(panel_from(np.arange(4), np.arange(4), np.ones(4)))
    assert [len(group) for group in found.components] == [1, 1, 1, 1]
    assert found.bridges["execution_id"].tolist() == ["x000000"] * 3
    assert found.bridges["reviewer_id"].tolist() == ["r00001", "r00002", "r00003"]


def test_crossed_reviewers_are_connected() -> None:
    panel = crossed_panel()
    found = connectivity(panel)
    assert found.connected
    assert found.components == (tuple(panel.reviewers),)
    assert found.bridges.empty


def test_unknown_reviewers_and_reviews_without_a_score_connect_nobody() -> None:
    output = np.array([0, 0, 1, 1, 2, 2])
    reviewer = np.array([0, -1, 1, -1, 0, 1])
    score = np.array([1.0, 1.0, 1.0, 1.0, 5.0, np.nan])
    panel = panel_from(output, reviewer, score)
    assert connectivity(panel).components == (("r00000",), ("r00001",))
    everything = np.ones(len(panel.review_output), dtype=bool)
    assert connectivity(panel, everything).connected


def test_no_reviews_one_reviewer_and_nobody_known() -> None:
    nothing = connectivity(panel_from(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty((0, 1))))
    assert nothing.components == ()
    assert nothing.connected
    assert nothing.bridges.empty
    assert connectivity(panel_from(np.arange(5), np.zeros(5, dtype=int), np.ones(5))).components == (("r00000",),)
    assert connectivity(panel_from(np.arange(5), np.full(5, -1), np.ones(5))).components == ()


def test_ten_thousand_reviewers_who_never_meet() -> None:
    panel = panel_from(np.arange(20_000), np.arange(20_000) % 10_000, np.ones(20_000))
    begun = time.perf_counter()
    found = connectivity(panel)
    assert time.perf_counter() - begun < 5
    assert len(found.components) == 10_000
    assert len(found.bridges) == 9_999


def test_real_reviews(shared_data: Path) -> None:
    assert connectivity(real_panel(shared_data / "summeval_op")).components == (("rater-1", "rater-2", "rater-3"),)
    separate = connectivity(real_panel(shared_data / "wmt_ted_ende"))
    assert separate.components == tuple((f"ende-ted-rater{n}",) for n in (4, 1, 3, 2))  # who has most reviews comes first
    assert len(separate.bridges) == 3
