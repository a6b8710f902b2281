import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.sdk.lines import NO_RECORD, batches, in_order, spooled
from feedback_pipeline.sdk.spool import SEGMENT_BYTES, Spool


def spool(folder: Path, limit: int = 10**9, *, sync: bool = False) -> Spool:
    return Spool(folder, limit_bytes=limit, sync=sync)


def drained(own: Spool) -> list[bytes]:
    lines = []
    while (segment := own.next_segment()) is not None:
        lines += segment.lines()
        own.drop(segment)
    return lines


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.jsonl"))


@pytest.mark.parametrize("sync", [True, False])
def test_records_come_out_once_in_their_order_and_leave_nothing(tmp_path: Path, sync: bool) -> None:
    own = spool(tmp_path, sync=sync)
    own.append([b"1", b"2"])
    own.append([b"3"])
    assert own.records == 3
    first = own.next_segment()
    assert first is not None
    assert own.next_segment() == first  # until it is acknowledged
    own.append([b"4"])
    assert first.lines() == [b"1", b"2", b"3"]
    assert drained(own) == [b"1", b"2", b"3", b"4"]
    assert (own.records, own.next_segment(), files(tmp_path)) == (0, None, [])
    own.close()
    assert list(tmp_path.iterdir()) == []


def test_segments_do_not_grow_for_ever(tmp_path: Path) -> None:
    own, line = spool(tmp_path), b"x" * (SEGMENT_BYTES // 3)
    for _ in range(7):
        own.append([line])
    assert len(files(tmp_path)) == 4
    assert len(drained(own)) == 7


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    own = spool(tmp_path, limit=10)
    own.append([b"12345678"])
    with pytest.raises(StoreUnavailable, match="spool_bytes"):
        own.append([b"9"])
    assert drained(own) == [b"12345678"]
    own.append([b"9"])
    assert drained(own) == [b"9"]


def test_a_full_disk_refuses_and_leaves_no_half_line(tmp_path: Path) -> None:
    """A limit of the file size stops a write in the middle, as a full disk does."""
    own = spool(tmp_path)
    own.append([b"first"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreUnavailable, match="free space"):
            own.append([b"y" * 3000, b"z" * 3000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    own.append([b"second"])
    assert drained(own) == [b"first", b"second"]


WRITER = """
import os, sys
from pathlib import Path
from feedback_pipeline.sdk.spool import Spool
own = Spool(Path(sys.argv[1]), limit_bytes=10**9, sync=False)
own.append([b"left", b"behind"])
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_taken_over_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    own = spool(tmp_path)
    own.append([b"own"])
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        assert own.adopt() == 0
        (torn,) = [path for path in tmp_path.rglob("*.jsonl") if b"left" in path.read_bytes()]
        writer.kill()
        writer.wait()
    with torn.open("ab") as file:
        file.write(b'{"half a rec')
    assert own.adopt() == 2
    assert own.adopt() == 0
    assert sorted(drained(own)) == [b"behind", b"left", b"own"]
    own.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_by_closing_is_taken_over_by_one_alone(tmp_path: Path) -> None:
    first, second, third = spool(tmp_path), spool(tmp_path), spool(tmp_path)
    first.append([json.dumps({"n": 1}).encode()])
    first.close()
    assert (second.adopt(), third.adopt()) == (1, 0)
    second.close()
    assert third.adopt() == 1


def test_a_folder_that_is_private(tmp_path: Path) -> None:
    own = spool(tmp_path / "spool")
    own.append([b"text of a review"])
    found = [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
    assert len(found) == 4
    assert not any(path.stat().st_mode & 0o077 for path in found)


def test_a_segment_is_sent_kind_by_kind_and_reviews_last() -> None:
    kinds = ["reviews", "applications", "executions", "applications", "executions", "reviews"]
    lines = [spooled(kind, b'{"n":%d}' % place) for place, kind in enumerate(kinds)]
    sent = list(batches(in_order([*lines, b"no record"])))
    assert sent[0] == (NO_RECORD, [b"no record"])
    places = [(kind, [json.loads(item)["n"] for item in items]) for kind, items in sent[1:]]
    assert places == [("applications", [1, 3]), ("executions", [2, 4]), ("reviews", [0, 5])]
