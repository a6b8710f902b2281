"""The randomised holdout: which executions an agent applies a pattern to, so that its effect can be measured.

Only the standard library: an agent imports this at run time.
"""

from hashlib import blake2b
from typing import Final

_BYTES: Final = 8
_RANGE: Final = 2.0 ** (8 * _BYTES)


def salt_of(installation_id: str, trial: int) -> str:
    """What keeps the assignments of one trial apart from those of others, and of other installations."""
    return f"{installation_id}:{trial}"


def assign(salt: str, pattern_id: str, execution_id: str, p_on: float) -> bool:
    """Whether an execution applies a pattern: the same answer whoever asks, and whenever.

    The share of executions that apply it is `p_on`; the answers for different patterns, and for different salts, are independent.
    One that applies a pattern at some `p_on` also does at any higher one.

    Args:
        salt: Of the trial, `salt_of`.
        pattern_id: The pattern on trial.
        execution_id: The execution.
        p_on: Probability to apply it; 0 never, 1 always.
    """
    digest = blake2b(f"{salt}:{pattern_id}:{execution_id}".encode(), digest_size=_BYTES).digest()
    return int.from_bytes(digest, "big") / _RANGE < p_on
