import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_pipeline.learning.confidence_sequences import Sequences
from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PROBATION, RETIRED, reason, share_applied
from feedback_pipeline.learning.trials import decide

NAN = float("nan")
NOT_YET = (-0.1, 0.2)
HELPS = (0.01, 0.2)
WORTHLESS = (-0.1, 0.019)
A_LITTLE = (0.001, 0.019)


def sequences(bounds: list[tuple[float, float]], first: int = 1) -> Sequences:
    low, high = np.array(bounds, dtype=float).reshape(-1, 2).T
    return Sequences(np.arange(first, first + len(bounds)), (low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("state", "looked", "bounds", "first", "expected"),
    [
        (PROBATION, 0, [], 1, (PROBATION, 0)),
        (PROBATION, 0, [(NAN, NAN)] * 3, 1, (PROBATION, 0)),
        (PROBATION, 0, [NOT_YET] * 3, 100, (PROBATION, 0)),
        (PROBATION, 0, [NOT_YET, HELPS, HELPS], 1, (ACTIVE, 2)),
        # A bound that was crossed once has decided.
        (PROBATION, 0, [NOT_YET, HELPS, NOT_YET], 1, (ACTIVE, 2)),
        (PROBATION, 0, [NOT_YET, WORTHLESS, HELPS], 1, (RETIRED, 2)),
        (PROBATION, 0, [HELPS, NOT_YET, WORTHLESS], 1, (RETIRED, 3)),
        (PROBATION, 0, [A_LITTLE], 1, (RETIRED, 1)),
        (PROBATION, 0, [(-0.1, 0.02)], 1, (PROBATION, 0)),
        (PROBATION, 0, [(0.0, 0.2)], 1, (PROBATION, 0)),
        # At 3,000 it must have been shown to help.
        (PROBATION, 2998, [NOT_YET], 2999, (PROBATION, 0)),
        (PROBATION, 2999, [NOT_YET], 3000, (RETIRED, 1)),
        (PROBATION, 2999, [HELPS], 3000, (ACTIVE, 1)),
        (PROBATION, 2999, [(NAN, NAN)], 3000, (RETIRED, 1)),
        (ACTIVE, 2999, [NOT_YET], 3000, (ACTIVE, 0)),
        (ACTIVE, 0, [NOT_YET, HELPS], 1, (ACTIVE, 0)),
        (ACTIVE, 0, [NOT_YET, WORTHLESS], 1, (RETIRED, 2)),
        (RETIRED, 0, [HELPS, HELPS], 1, (RETIRED, 0)),
        # What is not recommended now can be retired by what is still decided of its executions, and nothing else.
        (CANDIDATE, 0, [HELPS, NOT_YET], 1, (CANDIDATE, 0)),
        (CANDIDATE, 2999, [NOT_YET], 3000, (CANDIDATE, 0)),
        (CANDIDATE, 0, [HELPS, WORTHLESS], 1, (RETIRED, 2)),
        # What has been looked at does not decide again; the newest execution always does.
        (PROBATION, 2, [NOT_YET, HELPS, NOT_YET], 1, (PROBATION, 0)),
        (PROBATION, 9, [NOT_YET, NOT_YET, HELPS], 1, (ACTIVE, 3)),
    ],
)
def test_the_table_of_states(
    state: str, looked: int, bounds: list[tuple[float, float]], first: int, expected: tuple[str, int]
) -> None:
    found = decide(np.array([state], object), np.array([looked]), np.zeros(len(bounds), np.intp), sequences(bounds, first))
    offset = first - 1 if expected[1] else 0
    assert (found.state[0], found.decided_at[0] - offset) == expected


BOUNDS = st.lists(st.sampled_from([NOT_YET, HELPS, WORTHLESS, A_LITTLE, (NAN, NAN)]), min_size=1, max_size=12)


@given(paths=st.lists(BOUNDS, min_size=1, max_size=3), first=st.sampled_from([1, 2995]), data=st.data())
def test_looking_often_or_once_comes_to_the_same(paths: list[list[tuple[float, float]]], first: int, data: st.DataObject) -> None:
    state, looked = np.full(len(paths), PROBATION, object), np.zeros(len(paths), np.intp)
    whole = _decide(state, looked, paths, first)
    seen = [0] * len(paths)
    while any(done < len(path) for done, path in zip(seen, paths, strict=True)):
        seen = [
            min(len(path), done + data.draw(st.integers(0, 5)) + (i == 0))
            for i, (done, path) in enumerate(zip(seen, paths, strict=True))
        ]
        if seen[0] == len(paths[0]):
            seen = [len(path) for path in paths]
        state = _decide(state, looked, [path[:done] for path, done in zip(paths, seen, strict=True)], first)
        looked = np.array([first - 1 + done if done else 0 for done in seen])
    assert state.tolist() == whole.tolist()


def _decide(state: np.ndarray, looked: np.ndarray, paths: list[list[tuple[float, float]]], first: int) -> np.ndarray:
    each = [sequences(path, first) for path in paths]
    joined = Sequences(*(np.concatenate([getattr(one, name) for one in each]) for name in ("n", "effect", "low", "high")))
    group = np.repeat(np.arange(len(paths)), [len(path) for path in paths])
    return decide(state, looked, group, joined).state


@pytest.mark.parametrize(
    ("state", "n", "low", "share"),
    [
        (CANDIDATE, 0, None, 0.0),
        (PROBATION, 0, None, 0.5),
        (PROBATION, 2500, -0.1, 0.5),
        (ACTIVE, 700, 0.01, 0.8),
        (ACTIVE, 1999, 0.01, 0.8),
        (ACTIVE, 2000, 0.01, 0.95),
        (ACTIVE, 2000, 0.0, 0.8),
        (ACTIVE, 2000, NAN, 0.8),
        (RETIRED, 5000, 0.1, 0.0),
    ],
)
def test_how_many_executions_apply_it(state: str, n: int, low: float | None, share: float) -> None:
    assert share_applied(state, n, low) == share


def test_reasons_hold_the_numbers() -> None:
    assert reason(PROBATION, 0, NAN, NAN, NAN) == "on trial: nothing is decided yet"
    assert reason(PROBATION, 41, 0.2, NAN, NAN) == "on trial: 41 executions decided, 60 needed"
    assert reason(PROBATION, 90, 0.2, NAN, NAN) == "on trial: 90 executions decided, all of them applied it or none did"
    assert reason(PROBATION, 412, 0.031, -0.05, 0.112) == "on trial: approval +3.1 points [-5.0, 11.2] at 412 executions holds 0"
    assert reason(ACTIVE, 1639, 0.098, 0.004, 0.191) == "kept: it helps, approval +9.8 points [0.4, 19.1] at 1,639 executions"
    assert reason(RETIRED, 388, -0.1, -0.21, 0.019) == (
        "retired at 388 executions: it does not help by 2 points, approval -10.0 points [-21.0, 1.9]"
    )
    assert "still not shown to help" in reason(RETIRED, 3000, 0.02, -0.01, 0.05)
    assert "cannot be measured" in reason(RETIRED, 3000, NAN, NAN, NAN)
