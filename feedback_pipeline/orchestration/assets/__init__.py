"""The assets, and the registry of their groups: which module holds what, in the order of the flow."""

from types import ModuleType
from typing import Final

from feedback_pipeline.orchestration.assets import days, effectiveness, forecasts, insights, publication, reports, sources

GROUPS: Final[dict[str, tuple[ModuleType, ...]]] = {
    "source": (sources,),
    "reviewed_days": (days,),
    "insights": (insights,),
    "published": (publication, effectiveness),
    "forecasts": (forecasts,),
    "reports": (reports,),
}
