"""Ports on this machine: the next free ones, and a clear word where one is taken."""

import socket
from collections.abc import Collection
from typing import Final

from feedback_pipeline.environment import LOOPBACK
from feedback_pipeline.errors import UserError
from feedback_pipeline.settings import Settings

_PORTS_TRIED: Final = 50
_LAST_PORT: Final = 65535


def free_ports(settings: Settings) -> Settings:
    """The settings with the ports they name, or the next ones that are free on loopback."""
    dagster = _free_port(settings.dagster_port, "FEEDBACK_DAGSTER_PORT")
    api = _free_port(settings.api_port, "FEEDBACK_API_PORT", besides=[dagster])
    mlflow = _free_port(settings.mlflow_port, "FEEDBACK_MLFLOW_PORT", besides=[dagster, api])
    return settings.model_copy(update={"dagster_port": dagster, "api_port": api, "mlflow_port": mlflow})


def _free_port(wanted: int, variable: str, besides: Collection[int] = ()) -> int:
    for port in range(wanted, min(wanted + _PORTS_TRIED, _LAST_PORT + 1)):
        if port not in besides and _is_free(port):
            return port
    raise UserError(f"no free port from {wanted} on; set {variable}")


def require_free(port: int, variable: str, besides: Collection[int] = ()) -> None:
    """Make sure that nothing listens on a port, and that no other of our services is to.

    Raises:
        UserError: it is taken; `variable` names the setting to change.
    """
    if port in besides or not _is_free(port):
        raise UserError(f"port {port} on {LOOPBACK} is taken; stop what uses it or set {variable} to another one")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
