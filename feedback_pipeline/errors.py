"""Every error this package raises on purpose. The message names the thing and the next step."""


class FeedbackError(Exception):
    """Base of all errors of feedback_pipeline."""


class UserError(FeedbackError):
    """The caller can fix it: a wrong argument, a missing file, an unknown agent. Retrying as it is cannot help."""


class NotFound(UserError):
    """Nothing goes by that name."""


class NothingLearned(UserError):
    """It is asked too early: nothing has been learned yet, or no model trained."""


class LearningError(FeedbackError):
    """An estimate could not be computed (not converged, inputs that disagree)."""


class StoreError(FeedbackError):
    """A store (Postgres, feature store, MLflow) failed or holds something unexpected."""


class StoreUnavailable(StoreError):
    """A store cannot be reached; retrying later can help."""
