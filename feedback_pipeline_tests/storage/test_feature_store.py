"""The feature store: days whole or not at all, one order of rows, results, consumed changes; on disk and in memory."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feedback_pipeline.errors import StoreError, StoreUnavailable, UserError
from feedback_pipeline.learning.features import CATEGORIES, NUMERIC_FEATURES
from feedback_pipeline.storage import results
from feedback_pipeline.storage.day_tables import DECISION_POINTS, FEATURE_TABLE, HUMAN_FEEDBACK, score_matrix
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.files import Files

DAY = date(2026, 2, 3)
FIRST, SECOND = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def feedback(keys: list[tuple[str, str, str]], day: date = DAY, **changes: object) -> pa.Table:
    moment = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rows = [
        {
            **dict(zip(("agent_name", "execution_id", "feedback_id"), key, strict=True)),
            **{"content_id": "c", "reviewer_id": None, "stage": "seo", "decision": "approve", "reviewed_at": moment},
            **{"is_training_data": True, "feedback_confidence": None, "aspects": ["b", "a"], "scores": [1.0, 2.0]},
            **changes,
        }
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=HUMAN_FEEDBACK)


def features(keys: list[tuple[str, str]], **numbers: float) -> pa.Table:
    rows = [{"agent_name": a, "execution_id": e, "content_id": "c", "retry_count": 0} for a, e in keys]
    table = pa.Table.from_pylist(rows, schema=FEATURE_TABLE)
    for name, value in numbers.items():
        table = table.append_column(name, pa.array([value] * len(keys), pa.float64()))
    return table


def points(keys: list[tuple[str, str]], decisions: float = 1.0) -> pa.Table:
    rows = [
        {"agent_name": a, "execution_id": e, "decision_point": point, "decision_count": decisions}
        for a, e in reversed(keys)
        for point in ("edit", "draft")
    ]
    return pa.Table.from_pylist(rows, schema=DECISION_POINTS)


@pytest.fixture(params=["disk", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def store(root: str) -> FeatureStore:
    return FeatureStore(root, "one")


def write(
    store: FeatureStore, day: date = DAY, keys: tuple[tuple[str, str, str], ...] = (("b", "x", "1"), ("a", "y", "2"))
) -> None:
    outputs = sorted({(a, e) for a, e, _ in keys})
    store.write_day(
        day, feedback(list(keys), day), features(outputs), "v1", {"reviews": 2}, decision_points=points(outputs, day.day)
    )


def test_a_day_comes_back_in_order(store: FeatureStore) -> None:
    write(store)
    reviews, outputs = store.read_tables(None, DAY)
    assert reviews["agent_name"].to_pylist() == outputs["agent_name"].to_pylist() == ["a", "b"]
    assert reviews.schema.equals(HUMAN_FEEDBACK)
    manifest = store.manifest(DAY)
    assert manifest is not None
    assert (manifest["version"], manifest["facts"], manifest["trainable_rows"]) == ("v1", {"reviews": 2}, 2)
    assert manifest["human_feedback"]["rows"] == manifest["feature_table"]["rows"] == 2
    assert store.days() == {DAY: manifest}


def test_decision_points_of_an_output_are_those_of_its_last_day(store: FeatureStore) -> None:
    write(store)
    write(store, DAY + timedelta(days=1), keys=(("b", "x", "4"),))
    found = store.read_decision_points(None, DAY + timedelta(days=1))
    rows = [tuple(row.values())[:4] for row in found.to_pylist()]
    assert [row[:3] for row in rows] == [("a", "y", "draft"), ("a", "y", "edit"), ("b", "x", "draft"), ("b", "x", "edit")]
    counts = found["decision_count"].to_pylist()
    assert counts == [DAY.day, DAY.day, DAY.day + 1, DAY.day + 1]
    assert store.read_decision_points(None, DAY)["decision_count"].to_pylist() == [DAY.day] * 4
    assert store.read_decision_points(DAY + timedelta(days=2), DAY + timedelta(days=3)).num_rows == 0


def test_a_day_of_an_older_version_has_no_decision_points(store: FeatureStore, root: str) -> None:
    write(store)
    days = Files(f"{root}/one/days")
    manifest = json.loads(days.read(f"{DAY.isoformat()}.json"))
    del manifest["decision_points"]
    days.write(f"{DAY.isoformat()}.json", json.dumps(manifest).encode())
    assert store.read_decision_points(None, DAY).num_rows == 0
    assert store.read_tables(None, DAY)[0].num_rows == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (points([("a", "y")]).drop_columns(["decision_point"]), "must have the columns"),
        (pa.concat_tables([points([("a", "y")])] * 2), "repeats a key"),
    ],
)
def test_decision_points_that_cannot_be_are_refused(store: FeatureStore, table: pa.Table, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.write_day(DAY, feedback([("a", "y", "1")]), features([("a", "y")]), "v1", decision_points=table)
    assert store.days() == {}


def test_installations_do_not_share_days(root: str, store: FeatureStore) -> None:
    write(store)
    assert FeatureStore(root, "two").days() == {}
    assert list(FeatureStore(root, "one").days()) == [DAY]


def test_a_window_is_the_union_of_its_days(store: FeatureStore) -> None:
    later, latest = DAY + timedelta(days=1), DAY + timedelta(days=9)
    store.write_day(latest, feedback([("a", "x", "9")], latest), features([("a", "x")], alpha=9.0), "v")
    store.write_day(later, feedback([("a", "x", "5"), ("a", "x", "1")], later), features([("a", "x")], zeta=5.0), "v")
    store.write_day(DAY, feedback([("b", "z", "7")], DAY), features([("b", "z")]), "v")
    reviews, outputs = store.read_tables(None, latest)
    assert reviews["feedback_id"].to_pylist() == ["1", "5", "9", "7"]
    assert outputs.column_names[-2:] == ["alpha", "zeta"]
    # Of an output that was reviewed on several days the newest row stands last.
    assert outputs["zeta"].to_pylist() == [5.0, None, None]
    assert outputs["alpha"].to_pylist() == [None, 9.0, None]
    assert store.read_tables(later, later)[0]["feedback_id"].to_pylist() == ["1", "5"]
    assert [table.num_rows for table in store.read_tables(date(2027, 1, 1), date(2027, 1, 2))] == [0, 0]


def test_window_as_data_frames(store: FeatureStore) -> None:
    write(store)
    reviews, outputs = (table.to_pandas() for table in store.read_tables(DAY, DAY))
    pd.testing.assert_frame_equal(store.read_outputs(DAY, DAY).to_pandas(), outputs)
    assert list(reviews.columns) == HUMAN_FEEDBACK.names
    assert str(reviews["reviewed_at"].dtype) == "datetime64[us, UTC]"
    assert reviews["reviewer_id"].isna().all()
    assert [list(scores) for scores in reviews["scores"]] == [[1.0, 2.0]] * 2
    assert outputs[list(NUMERIC_FEATURES)].isna().all(axis=None)
    assert outputs[list(CATEGORIES)].isna().all(axis=None)


def test_rewriting_replaces_and_leaves_no_files(store: FeatureStore, root: str) -> None:
    write(store)
    write(store, keys=(("c", "z", "3"),))
    assert store.read_tables(None, DAY)[0]["agent_name"].to_pylist() == ["c"]
    assert len(Files(f"{root}/one/days").names(DAY.isoformat())) == 3
    store.remove_day(DAY)
    store.remove_day(DAY)
    assert store.days() == {}
    assert Files(f"{root}/one/days").names() == []


def test_the_same_rows_are_the_same_files_in_any_order(store: FeatureStore) -> None:
    write(store)
    before = store.manifest(DAY)
    write(store, keys=(("a", "y", "2"), ("b", "x", "1")))
    assert store.manifest(DAY) == before


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_a_writer_that_dies_before_the_manifest_changes_nothing(
    store: FeatureStore, root: str, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    write(store)
    before = store.read_tables(None, DAY)
    real: Callable[[Files, str, bytes], None] = Files.write
    written: list[str] = []

    def dying(self: Files, name: str, content: bytes) -> None:
        if len(written) == survivors:
            raise KeyboardInterrupt
        written.append(name)
        real(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Files, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            write(store, keys=(("c", "z", "3"),))
    assert all(one.equals(other) for one, other in zip(store.read_tables(None, DAY), before, strict=True))
    days = Files(f"{root}/one/days")
    assert len(days.names(DAY.isoformat())) == 3 + survivors
    write(store, keys=(("d", "z", "3"),))
    assert len(days.names(DAY.isoformat())) == 3


def test_a_torn_local_write_leaves_no_name_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(str(tmp_path))
    files.write("kept", b"old")

    def torn(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", torn)
    with pytest.raises(StoreUnavailable, match="disk full"):
        files.write("kept", b"new")
    assert files.read("kept") == b"old"
    assert files.names() == ["kept"]


@pytest.mark.parametrize(("bad", "message"), [
    (feedback([("a", "x", "1"), ("a", "x", "1")]), "repeats a key"),
    (feedback([("a", "x", "1")]).drop_columns(["stage"]), "must have the columns"),
    (feedback([("a", "x", "1")]).set_column(0, "agent_name", pa.array([None], pa.string())), "nulls"),
    (feedback([("a", "x", "1")]).set_column(8, "is_training_data", pa.array(["maybe"])), "types"),
])  # fmt: skip
def test_wrong_reviews_are_refused_before_anything_is_written(store: FeatureStore, bad: pa.Table, message: str) -> None:
    write(store)
    before = store.manifest(DAY)
    with pytest.raises(StoreError, match=message):
        store.write_day(DAY, bad, features([("a", "x")]), "v")
    assert store.manifest(DAY) == before


def test_wrong_features_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="repeats a key"):
        store.write_day(DAY, feedback([]), features([("a", "x"), ("a", "x")]), "v")
    with pytest.raises(StoreError, match="cost"):
        store.write_day(DAY, feedback([]), features([]).drop_columns(["cost"]), "v")
    assert store.days() == {}


def test_an_empty_day_is_a_day(store: FeatureStore) -> None:
    store.write_day(DAY, feedback([]), features([]), "v")
    assert [table.num_rows for table in store.read_tables(None, DAY)] == [0, 0]
    assert list(store.days()) == [DAY]


def test_a_damaged_store_says_so(store: FeatureStore, root: str) -> None:
    write(store)
    days, manifest = Files(f"{root}/one/days"), store.manifest(DAY)
    assert manifest is not None
    days.write(manifest["human_feedback"]["file"], b"PAR1 no")
    with pytest.raises(StoreError, match="damaged"):
        store.read_tables(None, DAY)
    days.remove(manifest["human_feedback"]["file"])
    with pytest.raises(StoreError, match="do not exist"):
        store.read_tables(None, DAY)
    days.write(f"{DAY.isoformat()}.json", b"{")
    with pytest.raises(StoreError, match="damaged"):
        store.days()


def test_a_reader_survives_a_writer(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The day is replaced after its manifest was read: the reader takes the new one."""
    write(store)
    stale = store.days()
    write(store, keys=(("new", "z", "3"),))
    answers = [stale]
    real = FeatureStore.days
    monkeypatch.setattr(FeatureStore, "days", lambda self: answers.pop() if answers else real(self))
    assert store.read_tables(None, DAY)[0]["agent_name"].to_pylist() == ["new"]


def test_score_matrix_spreads_lists() -> None:
    table = pa.concat_tables(
        [
            feedback([("a", "x", "1")]),
            feedback([("a", "x", "2")], aspects=["c"], scores=[7.0]),
            feedback([("a", "x", "3")], aspects=[], scores=[]),
        ]
    )
    matrix, aspects = score_matrix(table["aspects"], table["scores"])
    assert aspects == ("a", "b", "c")
    np.testing.assert_array_equal(matrix, [[2, 1, np.nan], [np.nan, np.nan, 7], [np.nan] * 3])
    matrix, aspects = score_matrix(table["aspects"].slice(2), table["scores"].slice(2))
    assert (matrix.shape, aspects) == ((1, 0), ())


def test_results_come_back_and_the_latest_is_known(store: FeatureStore) -> None:
    assert store.latest("severity") is None
    frame = pd.DataFrame(
        {"agent": ["a", None], "r": [0.5, np.nan], "when": pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True)}
    )
    store.write_result(FIRST, "severity", {"table": frame, "empty": frame.iloc[:0]}, {"n": 2, "reason": None})
    store.write_result(SECOND, "severity", {"table": frame.iloc[::-1]}, {})
    store.write_result(FIRST, "other", {}, {})
    frames, facts = store.read_result(FIRST, "severity")
    pd.testing.assert_frame_equal(frames["table"], frame)
    assert len(frames["empty"]) == 0
    assert facts == {"n": 2, "reason": None}
    assert (store.latest("severity"), store.latest("other")) == (SECOND, FIRST)
    with pytest.raises(StoreError, match="materialize other again"):
        store.read_result(SECOND, "other")


def test_only_the_newest_results_are_kept(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "KEPT_RESULTS", 2)
    runs = [str(uuid.UUID(int=number)) for number in range(4)]
    for run in runs:
        store.write_result(run, "asset", {}, {"run": run})
    with pytest.raises(StoreError):
        store.read_result(runs[1], "asset")
    assert [store.read_result(run, "asset")[1]["run"] for run in runs[2:]] == runs[2:]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b"])
def test_results_have_plain_names(store: FeatureStore, name: str) -> None:
    with pytest.raises(UserError):
        store.write_result(FIRST, name, {}, {})
    with pytest.raises(UserError):
        store.read_result(name, "asset")


def test_consumed_changes_are_forgotten_by_token(store: FeatureStore) -> None:
    assert store.write_consumed([]) is None
    store.write_consumed([5, 3, 3])
    ids, tokens = store.read_consumed()
    assert ids.tolist() == [3, 5]
    store.write_consumed(np.array([4, 5]))
    store.drop_consumed(tokens)
    assert store.read_consumed()[0].tolist() == [4, 5]


def test_manifests_are_plain_json(tmp_path: Path) -> None:
    store = FeatureStore(str(tmp_path), "one")
    write(store)
    document = json.loads((tmp_path / "one" / "days" / f"{DAY}.json").read_text())
    assert document["day"] == DAY.isoformat()
    assert (tmp_path / "one" / "days" / document["feature_table"]["file"]).is_file()
