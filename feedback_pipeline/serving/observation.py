"""What can be seen of the API from outside: counts and times for Prometheus, lines of JSON; no text, no id of anybody."""

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback_pipeline.serving.problems import problem

LOG: Final = logging.getLogger("feedback_pipeline.serving")
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_NO_ROUTE: Final = "none"
_FAILED: Final = 500
_REFUSED: Final = 400
PoolCounts = Callable[[], dict[str, dict[str, int]]]
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'",
    ),
)


class Metrics:
    """Counters of one API process.

    Args:
        pools: Says how the connections stand.
    """

    def __init__(self, pools: PoolCounts) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter("feedback_api_requests", "Requests answered", names, registry=self.registry)
        self.seconds = Histogram(
            "feedback_api_request_seconds", "Time to answer", names[:2], registry=self.registry, buckets=_SECONDS
        )
        self.running = Gauge("feedback_api_requests_running", "Requests being answered", registry=self.registry)
        self.registry.register(_Pools(pools))


class _Pools(Collector):
    def __init__(self, counts: PoolCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("feedback_api_pool", "Connections to the database, and who waits", labels=("pool", "state"))
        for pool, states in self._counts().items():
            for state, count in states.items():
                family.add_metric((pool, state), count)
        yield family


class Observation:
    """Outermost middleware: counts, logs, and answers what nobody foresaw.

    Args:
        app: What comes next.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing that is raised behind it leaves it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, noting)
        except TimeoutError:
            pass  # the client does not take its answer
        except Exception as error:  # noqa: BLE001 - the outermost handler
            log_error(error)
            if not status:
                await problem(error)(scope, receive, noting)
        finally:
            self._metrics.running.dec()
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        level = logging.ERROR if status >= _FAILED else logging.WARNING if status >= _REFUSED else logging.INFO
        if LOG.isEnabledFor(level):
            about = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
            LOG.log(level, "request", extra={"about": about})


def log_error(error: Exception) -> None:
    """Which error, and where: not its message, which may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    LOG.error("error", extra={"about": {"error": type(error).__name__, "where": places}})


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, event, and what is known of it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        about = getattr(record, "about", {})
        return json.dumps({"at": at, "level": record.levelname.lower(), "event": record.getMessage()} | about)
