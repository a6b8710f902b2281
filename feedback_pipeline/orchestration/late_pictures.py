"""Pictures that wait until what agents read is published: drawing takes as long as learning.

A run that publishes draws them after the publication, and hands them in as observations: the web UI shows those in the tab Events
of an asset, not in its Overview. A run that publishes nothing draws at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
from pydantic import Field, PrivateAttr

PUBLICATION: Final = dg.AssetKey("learned_improvements")

Draw = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class _Waiting:
    asset_key: dg.AssetKey
    partition: str | None
    draw: Draw


class LatePictures(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What is to be drawn once this run has published; it lives from the first step of the run to the last."""

    held_back: bool = Field(default=True, description="draw after the publication; false: within the step, before it")
    _waiting: list[_Waiting] = PrivateAttr(default_factory=list)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Begins with nothing."""
        self._waiting = []

    def now_or_later(
        self, context: dg.AssetExecutionContext, asset_key: dg.AssetKey, draw: Draw, partition: str | None = None
    ) -> dict[str, Any]:
        """The pictures where this run publishes nothing, else none: they wait.

        Args:
            context: Of the asset.
            asset_key: Whose pictures they are.
            draw: Draws them, as metadata.
            partition: The partition they belong to.
        """
        if not self.held_back or PUBLICATION not in context.job_def.asset_layer.selected_asset_keys:
            return draw()
        self._waiting.append(_Waiting(asset_key, partition, draw))
        return {}

    def drawn(self) -> Iterator[dg.AssetObservation]:
        """Draws what waits."""
        while self._waiting:
            one = self._waiting.pop(0)
            yield dg.AssetObservation(one.asset_key, metadata=one.draw(), partition=one.partition)
