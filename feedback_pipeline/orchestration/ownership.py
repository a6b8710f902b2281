"""Who answers for the assets."""

from typing import Final

OWNERS: Final = ["team:feedback-pipeline"]
