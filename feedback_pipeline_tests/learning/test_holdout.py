import hashlib

import numpy as np
import pytest

from feedback_pipeline.learning.holdout import assign, salt_of

SALT = salt_of("f5fa04f2-5654-4416-b104-7f8fb5962220", 1)
EXECUTIONS = [f"execution-{i}" for i in range(20_000)]


def assigned(pattern: str, p_on: float, salt: str = SALT) -> np.ndarray:
    return np.array([assign(salt, pattern, execution, p_on) for execution in EXECUTIONS])


def test_the_rule_is_that_of_its_definition() -> None:
    """By another way through the same hash: its first hexadecimal digits."""
    for execution in EXECUTIONS[:200]:
        digits = hashlib.blake2b(f"{SALT}:pattern:{execution}".encode(), digest_size=8).hexdigest()
        assert assign(SALT, "pattern", execution, 0.5) == (digits[0] in "01234567")
        assert assign(SALT, "pattern", execution, 0.25) == (digits[0] in "0123")


def test_the_same_answer_in_every_version() -> None:
    """Assignments in the field must survive an upgrade."""
    assert [assign("salt:1", "pattern", str(i), 0.5) for i in range(8)] == [True, True, False, True, True, True, False, True]


@pytest.mark.parametrize("p_on", [0.5, 0.8, 0.95])
def test_the_share_is_the_probability(p_on: float) -> None:
    share = assigned("pattern", p_on).mean()
    assert abs(share - p_on) < 3.5 * np.sqrt(p_on * (1 - p_on) / len(EXECUTIONS))


def test_never_and_always() -> None:
    assert not assigned("pattern", 0.0).any()
    assert assigned("pattern", 1.0).all()


def test_patterns_and_trials_are_independent() -> None:
    first = assigned("a", 0.5)
    for other in (assigned("b", 0.5), assigned("a", 0.5, salt_of("f5fa04f2-5654-4416-b104-7f8fb5962220", 2))):
        assert abs(np.corrcoef(first, other)[0, 1]) < 3.5 / np.sqrt(len(EXECUTIONS))


def test_who_applies_it_also_does_when_more_do() -> None:
    few, many = assigned("pattern", 0.5), assigned("pattern", 0.8)
    assert (many | ~few).all()
