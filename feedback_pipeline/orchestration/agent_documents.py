"""What is published of one agent, read together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.errors import StoreUnavailable

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Database

_READS: Final = 5

Document = dict[str, Any]


@dataclass(frozen=True)
class AgentDocuments:
    """What the readers of the published tables say of one agent, all of one learning run."""

    findings: Document
    patterns: Document
    improvements: Document
    strategy: Document

    @property
    def agent_name(self) -> str:
        """Whose they are."""
        return str(self.patterns["agent_name"])

    def reason(self, part: str) -> str:
        """Why a part has nothing to show."""
        state = self.patterns["parts"].get(part) or {}
        reason = state.get("reason") or self.patterns["reason"]
        return str(reason) if reason else "nothing passed the tests"


def read_agent(database: "Database", agent_name: str) -> AgentDocuments:
    """Reads everything that is published of an agent; again where a learning run was published in between.

    Raises:
        UserError: nothing was learned yet, or the agent is not known.
        StoreUnavailable: learning runs are published faster than they can be read.
    """
    from feedback_pipeline.storage.reading import read_findings
    from feedback_pipeline.storage.reading_patterns import read_improvements, read_patterns
    from feedback_pipeline.storage.reading_strategy import read_strategy

    for _ in range(_READS):
        parts = (
            read_findings(database, agent_name),
            read_patterns(database, agent_name),
            read_improvements(database, agent_name),
            read_strategy(database, agent_name),
        )
        if len({part["learning_run_id"] for part in parts}) == 1:
            return AgentDocuments(*parts)
    raise StoreUnavailable(f"learning runs were published while the results of {agent_name!r} were read; try again")
