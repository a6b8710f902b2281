"""Tells a webhook that a run failed: a small JSON document, no free text of reviews."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Final

from feedback_pipeline.errors import StoreUnavailable

ATTEMPTS: Final = 3
TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 1.0


def send_alert(address: str, document: Mapping[str, object], *, pause: Callable[[float], None] = time.sleep) -> None:
    """POST the document; any answer of the 2xx family counts as received.

    Args:
        address: http:// or https://; never part of a message, for it may hold a secret.
        document: What to say.
        pause: Waits so many seconds between two attempts.

    Raises:
        StoreUnavailable: three attempts failed; the message names the kind of the last failure.
    """
    content = json.dumps(document, ensure_ascii=False).encode()
    failure = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(PAUSE_S * attempt)
        failure = _refused(address, content)
        if not failure:
            return
    raise StoreUnavailable(
        f"the webhook of FEEDBACK_ALERT_WEBHOOK did not take the message in {ATTEMPTS} attempts ({failure}); check its address"
    )


def _refused(address: str, content: bytes) -> str:
    """Why one attempt failed, empty where it did not."""
    headers = {"Content-Type": "application/json", "User-Agent": "feedback-pipeline"}
    request = urllib.request.Request(address, data=content, headers=headers, method="POST")  # noqa: S310 - settings allow http(s)
    try:
        with urllib.request.build_opener().open(request, timeout=TIMEOUT_S) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
    return ""
