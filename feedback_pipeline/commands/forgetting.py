"""A forgetting as the terminal shows it: whether it waits, that it learns; standard output is for the receipts."""

import os
from collections.abc import Sequence
from datetime import date

import click

from feedback_pipeline.commands.rendering import working
from feedback_pipeline.environment import Environment
from feedback_pipeline.learning_pass.forgetting import begin_forgetting, finish_forgetting
from feedback_pipeline.learning_pass.forgetting_steps import Installation
from feedback_pipeline.storage.forget_receipts import Document, read_receipt
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_uris import TRACKING_VARIABLE


def forget_and_report(environment: Environment, named: tuple[str, str] | None) -> list[Document]:
    """Forgets what is named, by kind and id, and finishes what was interrupted before.

    Returns:
        The receipts of all that was under way.

    Raises:
        NotFound: nothing of that id is here.
        FeedbackError: a step failed; without an id the next call goes on there.
    """
    environment.adopt()
    installation = installation_of(environment)
    named_receipt = begin_forgetting(installation, *named) if named is not None else None
    with working("Learning without it"):
        receipts = finish_forgetting(installation)
    if named_receipt is not None and named_receipt not in {receipt["receipt_id"] for receipt in receipts}:
        # Another process, such as the API, has finished it with its own.
        receipts.append(read_receipt(environment.database, named_receipt).document)
    return receipts


def installation_of(environment: Environment) -> Installation:
    """What a forgetting works on, in a process that has adopted the environment."""
    return Installation(
        environment.database,
        environment.settings,
        Tracking(os.environ[TRACKING_VARIABLE], os.environ["FEEDBACK_MLFLOW_ARTIFACTS"]),
        _relearn,
        lambda: click.echo("Another learning pass is running on this database; this starts when it is done.", err=True),
    )


def _relearn(days: Sequence[date]) -> str:
    from feedback_pipeline.orchestration.learning_run import run_learning

    return run_learning(days)
