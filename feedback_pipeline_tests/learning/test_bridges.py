"""Which second reviews `connectivity` proposes: few, of recent outputs, spread over executions, enough to connect."""

import numpy as np

from feedback_pipeline.learning.connectivity import connectivity
from feedback_pipeline_tests.learning.test_agreement import panel_from


def test_of_reviewers_who_never_meet_the_one_with_most_outputs_is_the_hub() -> None:
    """By name alone everybody would be asked to review the only output of r00000, once more for each of them."""
    output = np.arange(9)
    reviewer = np.array([0, 1, 1, 2, 2, 2, 2, 3, 4])
    found = connectivity(panel_from(output, reviewer, np.ones(9), day=output))
    assert found.components == (("r00002",), ("r00001",), ("r00000",), ("r00003",), ("r00004",))
    assert found.bridges["execution_id"].tolist() == ["x000006", "x000005", "x000004", "x000003"]
    assert found.bridges["reviewer_id"].tolist() == ["r00001", "r00000", "r00003", "r00004"]


def test_each_bridge_is_another_execution_because_a_review_counts_for_all_its_agents() -> None:
    """The hub's newest execution has two agents: proposing both outputs would ask twice for one and the same text."""
    output = np.array([0, 1, 2, 2, 3, 4])
    agent = np.array([0, 0, 0, 1, 0, 0])
    reviewer = np.array([0, 0, 0, 0, 1, 2])
    found = connectivity(panel_from(output, reviewer, np.ones(6), agent=agent, day=output))
    assert len(found.components) == 3
    assert found.bridges[["agent_name", "execution_id"]].values.tolist() == [["a0", "x000002"], ["a0", "x000001"]]


def test_an_execution_with_two_agents_connects_its_reviewers_once_and_for_all() -> None:
    output, agent = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 0])
    found = connectivity(panel_from(output, np.array([0, 1, 0, 1, 1]), np.ones(5), agent=agent))
    assert found.connected
    assert found.bridges.empty


def test_when_the_hub_has_too_few_outputs_its_newest_are_used_again() -> None:
    output = np.array([0, 0, 1, 1, 2, 3, 4])
    reviewer = np.array([0, 1, 0, 1, 2, 3, 4])
    found = connectivity(panel_from(output, reviewer, np.ones(7), day=output))
    assert found.components[0] == ("r00000", "r00001")
    assert found.bridges["execution_id"].tolist() == ["x000001", "x000000", "x000001"]


def test_of_a_group_the_reviewer_with_most_reviews_is_asked() -> None:
    output = np.array([0, 0, 0, 1, 1, 2])
    reviewer = np.array([0, 1, 2, 3, 4, 4])
    found = connectivity(panel_from(output, reviewer, np.ones(6)))
    assert found.bridges["reviewer_id"].tolist() == ["r00004"]


def test_row_order_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    output, reviewer, day = np.arange(40), rng.integers(0, 12, 40), rng.integers(0, 9, 40)
    order = rng.permutation(40)
    first = connectivity(panel_from(output, reviewer, np.ones(40), day=day))
    second = connectivity(panel_from(output[order], reviewer[order], np.ones(40), day=day[order]))
    assert first.components == second.components
    assert first.bridges.equals(second.bridges)
