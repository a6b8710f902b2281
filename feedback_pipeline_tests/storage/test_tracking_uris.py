import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.storage.tracking_uris import described, require_reachable, serves_itself, tracking_uri, web_address


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("postgresql://me:p%40ss@host:5433/mlflow", "postgresql+psycopg2://me:p%40ss@host:5433/mlflow"),
        ("postgres://me@host/mlflow", "postgresql+psycopg2://me@host/mlflow"),
        ("postgresql:///mlflow?host=/run/pg", "postgresql+psycopg2:///mlflow?host=/run/pg"),
        (" http://tracking:5000/ ", "http://tracking:5000"),
        ("https://me:word@tracking/prefix", "https://me:word@tracking/prefix"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("mysql+pymysql://me:word@host/mlflow", "mysql+pymysql://me:word@host/mlflow"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_uris_reach_mlflow_with_the_driver_it_has(text: str, uri: str) -> None:
    assert tracking_uri(text) == uri
    assert tracking_uri(uri) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/mlruns",
        "mlruns",
        "file:///data/mlruns",
        "htp://me:pass-word@tracking",
        "http://",
        "http://me:pass-word",
        "http://me:pass/word@tracking:x",
        "postgresql://me:pass-word@host",
        "postgresql://me:pass@-word@host/mlflow",
        "postgresql+pg8000://me:pass-word@host/mlflow",
    ],
)
def test_what_mlflow_cannot_use_is_refused_without_secrets(text: str) -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as refusal:
        tracking_uri(text)
    assert "word@" not in str(refusal.value).replace("password@", "")
    assert "pass-" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words", "address", "served"),
    [
        ("postgresql://me:secret@host/mlflow", "database 'mlflow' on host 'host'", None, False),
        ("https://me:secret@tracking:8080/ml/", "https://tracking:8080/ml", "https://tracking:8080/ml", True),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db", None, False),
        ("mysql+pymysql://me:secret@host/mlflow", "mysql+pymysql", None, False),
        ("databricks", "databricks", None, True),
    ],
)
def test_a_store_is_described_without_its_credentials(text: str, words: str, address: str | None, served: bool) -> None:
    uri = tracking_uri(text)
    assert (described(uri), web_address(uri), serves_itself(uri)) == (words, address, served)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@pytest.mark.parametrize("shape", ["http://me:secret@127.0.0.1:{}", "postgresql://me:secret@127.0.0.1:{}/mlflow"])
def test_a_store_that_is_away_is_named_with_what_to_do(silent_port: int, shape: str) -> None:
    with pytest.raises(StoreUnavailable, match="try again") as away:
        require_reachable(tracking_uri(shape.format(silent_port)))
    assert "127.0.0.1" in str(away.value)
    assert "secret" not in str(away.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot make the folder"):
        require_reachable(f"sqlite:///{tmp_path}/file/below/mlflow.db")


@pytest.mark.parametrize("status", [200, 401, 404])
def test_a_server_that_answers_anything_is_there(status: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Nothing: the terminal belongs to the tests."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        require_reachable(f"http://127.0.0.1:{server.server_port}")
        thread.join()
