"""What an agent imports: read what reviews have taught, apply it, record executions, hand in reviews. See docs/sdk.md."""

from feedback_pipeline.sdk.agent import LearningEnhancedAgent
from feedback_pipeline.sdk.async_client import AsyncLearningClient
from feedback_pipeline.sdk.client import LearningClient
from feedback_pipeline.sdk.handlers import HANDLERS, Skip, guidance
from feedback_pipeline.sdk.options import Bounds, ClientOptions
from feedback_pipeline.sdk.recording import current_recording

__all__ = [
    "HANDLERS",
    "AsyncLearningClient",
    "Bounds",
    "ClientOptions",
    "LearningClient",
    "LearningEnhancedAgent",
    "Skip",
    "current_recording",
    "guidance",
]
