"""A real server on loopback: a thousand clients that dawdle take nothing from those that do not."""

import resource
import socket
from contextlib import ExitStack

import httpx2
import pytest
from pydantic import SecretStr

from feedback_pipeline.serving import __main__ as process
from feedback_pipeline.serving import patience
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.connections import READERS
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld, served

pytestmark = WHOLE_ROOM

DAWDLERS = 1000
HALF_A_REQUEST = f"GET {PREFIX}/agents HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".encode()
HALF_A_BODY = f"POST {PREFIX}/executions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n{{".encode()


def test_a_thousand_slow_clients_do_not_starve_the_readers(
    learned_world: LearnedWorld, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process._allow_files(min(hard, 2 * DAWDLERS + 500))
    monkeypatch.setattr(patience, "HEADERS_S", 3.0)
    with served(learned_world) as address, ExitStack() as sockets:
        host, port = address.removeprefix("http://").split(":")
        dawdlers = [sockets.enter_context(socket.create_connection((host, int(port)))) for _ in range(DAWDLERS)]
        for k, dawdler in enumerate(dawdlers):
            dawdler.sendall(HALF_A_REQUEST if k % 2 else HALF_A_BODY)
        with httpx2.Client(base_url=address) as client:
            statuses = [client.get(f"{PREFIX}/agents/{agent}/improvements").status_code for _ in range(5 * READERS)]
            assert statuses == [200] * len(statuses)
            counts = client.get("/metrics").text
            assert 'feedback_api_pool{pool="readers",state="waiting"} 0.0' in counts
            for dawdler in dawdlers[1::2]:
                dawdler.settimeout(20)
                assert dawdler.recv(1) == b"", "who does not say what it wants is not waited for"
            assert client.get("/health").status_code == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_tokens_nobody_but_this_machine_is_listened_to(
    learned_world: LearnedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feedback_pipeline_tests.serving.test_access import tokens

    everywhere = {"database_url": SecretStr(learned_world.database.url), "host": "0.0.0.0"}  # noqa: S104
    settings = learned_world.settings.model_copy(update=everywhere)
    assert process.configuration(settings).host == "127.0.0.1"
    assert process.configuration(settings.model_copy(update={"api_tokens": tokens()})).host == "0.0.0.0"  # noqa: S104
