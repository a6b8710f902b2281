import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from feedback_pipeline.learning.joint_family import JointFamily


def some_tests(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"agent_name": rng.choice(["a", "b", "c"], 300), "p_value": rng.random(300) ** 4})


def test_every_agent_is_a_family_over_all_sources() -> None:
    tests = some_tests(1)
    family = JointFamily.of([tests[:100], tests[100:]])
    found = family.q_values(tests)
    for _, rows in tests.groupby("agent_name").indices.items():
        assert found[rows] == pytest.approx(false_discovery_control(tests["p_value"].to_numpy()[rows]), rel=1e-12)
    assert sum(family.size(name) for name in "abc") == 300


def test_order_and_other_agents_change_nothing() -> None:
    tests = some_tests(2)
    shuffled = tests.sample(frac=1, random_state=3)
    alone = tests[tests["agent_name"] == "b"]
    expected = JointFamily.of([tests]).q_values(alone)
    assert np.array_equal(JointFamily.of([shuffled]).q_values(alone), expected)
    assert np.array_equal(JointFamily.of([alone]).q_values(alone), expected)


def test_an_undefined_p_is_no_candidate_and_stays_undefined() -> None:
    tests = pd.DataFrame({"agent_name": ["a", "a", "b"], "p_value": [0.01, np.nan, np.nan]})
    family = JointFamily.of([tests])
    assert (family.size("a"), family.size("b"), family.size("nobody")) == (1, 0, 0)
    found = family.q_values(tests)
    assert found[0] == 0.01
    assert np.isnan(found[1:]).all()


def test_tiny_values_keep_their_digits() -> None:
    tests = pd.DataFrame({"agent_name": ["a"] * 3, "p_value": [1e-300, 1e-20, 0.5]})
    assert JointFamily.of([tests]).q_values(tests) == pytest.approx([3e-300, 1.5e-20, 0.5], rel=1e-12)
