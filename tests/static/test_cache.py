"""The cache under every abuse: it may forget, it may never be wrong, and it never raises."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpaudit.static import cache as module
from mpaudit.static.cache import Cache

OLD = 1_600_000_000


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def database(folder: Path) -> Path:
    [file] = folder.glob("facts-*.sqlite")
    return file


def old_file(path: Path, text: str = "x") -> os.stat_result:
    """A file whose times are long past, as far as that can be faked: the ctime cannot."""
    path.write_text(text)
    os.utime(path, (OLD, OLD))
    found = path.stat()
    return os.stat_result(
        (*found[:9], OLD), {name: getattr(found, name) for name in ("st_mtime_ns",)} | {"st_ctime_ns": OLD * 10**9}
    )


def test_keeps_blobs_between_openings(tmp_path: Path) -> None:
    first = Cache(tmp_path / "c")
    first.put_many({b"a": b"1", b"b": b""})
    first.close()
    second = Cache(tmp_path / "c")
    assert second.get_many([b"a", b"b", b"c"]) == {b"a": b"1", b"b": b""}
    assert second.failures == first.failures == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.binary(max_size=40), st.binary(max_size=200)), max_size=4))
def test_is_a_mapping(tmp_path_factory: pytest.TempPathFactory, batches: list[dict[bytes, bytes]]) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    expected: dict[bytes, bytes] = {}
    for batch in batches:
        cache.put_many(batch)
        expected |= batch
    assert cache.get_many([*expected, b"never put" * 9]) == expected
    cache.close()


def test_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    items = {index.to_bytes(4, "big"): os.urandom(20) for index in range(3 * module._BATCH + 1)}
    cache.put_many(items)
    assert cache.get_many(items) == items


def test_folder_is_marked_for_git_and_backups(tmp_path: Path) -> None:
    Cache(tmp_path / "c").close()
    assert (tmp_path / "c" / ".gitignore").read_text() == "*\n"
    assert (tmp_path / "c" / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_a_folder_with_other_files_is_not_hidden_from_git(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    cache = Cache(tmp_path)
    cache.put_many({b"k": b"v"})
    assert cache.get_many([b"k"]) == {b"k": b"v"}
    assert not (tmp_path / ".gitignore").exists()


def test_without_a_folder_it_holds_nothing() -> None:
    cache = Cache(None)
    cache.put_many({b"k": b"v"})
    assert cache.get_many([b"k"]) == {}
    assert cache.failures == 0


def test_another_version_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Cache(tmp_path)
    ours.put_many({b"k": b"ours"})
    ours.close()
    with monkeypatch.context() as patch:
        patch.setattr(module, "SCHEMA", module.SCHEMA + 1)
        theirs = Cache(tmp_path)
        assert theirs.get_many([b"k"]) == {}
        theirs.put_many({b"k": b"theirs"})
        theirs.close()
    assert Cache(tmp_path).get_many([b"k"]) == {b"k": b"ours"}


def test_a_changed_blob_is_not_trusted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_many({b"k": b"value", b"l": b"other"})
    cache.close()
    with sqlite3.connect(database(tmp_path)) as db:
        db.execute("UPDATE blobs SET value = CAST(substr(value, 1, 8) || 'forged' AS BLOB) WHERE rowid = 1")
    db.close()
    assert Cache(tmp_path).get_many([b"k", b"l"]) == {b"l": b"other"}


def test_a_blob_under_another_key_is_not_trusted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_many({b"k": b"value", b"l": b"other"})
    cache.close()
    with sqlite3.connect(database(tmp_path)) as db:
        db.execute("UPDATE blobs SET value = (SELECT value FROM blobs WHERE rowid = 2)")
    db.close()
    assert Cache(tmp_path).get_many([b"k", b"l"]) == {b"l": b"other"}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"not a database " * 999, id="garbage"),
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: data[:1500], id="cut within a page"),
        pytest.param(lambda data: data[:100] + b"\xff" * (len(data) - 100), id="pages overwritten"),
        pytest.param(lambda data: data[:4096] + b"\0" * (len(data) - 4096), id="pages zeroed"),
        pytest.param(lambda data: data[:60] + b"\0\0\0\7" + data[64:], id="another layout"),
    ],
)
def test_a_damaged_file_is_replaced(tmp_path: Path, damage) -> None:
    items = {index.to_bytes(4, "big"): bytes([index % 256]) * 500 for index in range(300)}
    cache = Cache(tmp_path)
    cache.put_many(items)
    cache.close()
    file = database(tmp_path)
    file.write_bytes(damage(file.read_bytes()))

    hurt = Cache(tmp_path)
    assert hurt.get_many(items).items() <= items.items()
    hurt.put_many({b"new": b"1"})
    hurt.close()
    healed = Cache(tmp_path)
    healed.put_many(items)
    assert healed.get_many([*items, b"new"]).items() >= items.items()
    assert healed.failures == 0
    assert len(list(tmp_path.glob("facts-*"))) == 1


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_damage_never_raises_nor_lies(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cache")
    items = {index.to_bytes(4, "big"): bytes([index % 256]) * 300 for index in range(60)}
    cache = Cache(folder)
    cache.put_many(items)
    cache.close()
    raw = bytearray(database(folder).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(raw) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=64))
        raw[start : start + len(noise)] = noise
    database(folder).write_bytes(raw)
    for _ in range(3):
        hurt = Cache(folder)
        assert hurt.get_many(items).items() <= items.items()
        hurt.put_many(items)
        hurt.close()
    final = Cache(folder)
    found = final.get_many(items)
    assert found.items() <= items.items()
    final.close()


WRITER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from mpaudit.static.cache import Cache
    folder, name, rounds = Path(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
    for number in range(rounds):
        cache = Cache(folder)
        print("round", flush=True)
        items = {name + b"%d-%d" % (number, index): (name + b"%d" % index) * 2000 for index in range(40)}
        cache.put_many(items)
        found = cache.get_many(items)
        assert cache.failures or found == items
        failures = cache.failures
        cache.close()
        if failures:
            sys.exit(f"{failures} failures")
    """
)


def writer(folder: Path, name: str, rounds: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_ten_processes_write_at_once(tmp_path: Path) -> None:
    writers = [writer(tmp_path, f"p{index}-", 3) for index in range(10)]
    for process in writers:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, b"")
    cache = Cache(tmp_path)
    keys = [
        f"p{process}-{number}-{index}".encode() for process in range(10) for number in range(3) for index in range(40)
    ]
    assert len(cache.get_many(keys)) == 1200
    assert cache.failures == 0


def test_killed_while_writing(tmp_path: Path) -> None:
    before = Cache(tmp_path)
    before.put_many({b"before": b"1"})
    before.close()
    for attempt in range(8):
        process = writer(tmp_path, f"k{attempt}-", 10_000)
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    after = Cache(tmp_path)
    assert after.get_many([b"before"]) == {b"before": b"1"}
    for attempt in range(8):
        # a transaction is there whole or not at all
        assert len(after.get_many([f"k{attempt}-1-{index}".encode() for index in range(40)])) in (0, 40)
    after.put_many({b"after": b"2"})
    assert after.get_many([b"after"]) == {b"after": b"2"}
    assert after.failures == 0
    [integrity] = sqlite3.connect(database(tmp_path)).execute("PRAGMA integrity_check").fetchone()
    assert integrity == "ok"


def test_a_full_disk_costs_only_the_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_many({b"k": b"v"})
    assert cache._db is not None
    pages = cache._db.execute("PRAGMA page_count").fetchone()[0]
    cache._db.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite then says «database or disk is full»
    cache.put_many({b"big": bytes(1_000_000)})
    assert cache.failures == 1
    assert cache.get_many([b"k", b"big"]) == {}
    cache.close()
    assert Cache(tmp_path).get_many([b"k", b"big"]) == {b"k": b"v"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "c")
    cache.put_many({b"k": b"v"})
    assert cache.get_many([b"k"]) == {}
    assert cache.failures == 1


def test_a_read_only_database_still_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path).put_many({b"k": b"v"})
    connect = sqlite3.connect

    def read_only(
        file: Path, **options: object
    ) -> sqlite3.Connection:  # what an unwritable folder comes to, for root too
        return connect(f"file:{file}?mode=ro", uri=True, **options)

    monkeypatch.setattr(module.sqlite3, "connect", read_only)
    monkeypatch.setattr(module.time, "time", lambda: 4e9)  # another day, when rows would be marked as used
    cache = Cache(tmp_path)
    assert cache.get_many([b"k"]) == {b"k": b"v"}
    cache.put_many({b"l": b"w"})
    assert cache.failures == 1


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_read_only_folder_raises_nothing(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    folder.chmod(mode)
    try:
        cache = Cache(folder)
        cache.put_many({b"k": b"v"})
        assert cache.get_many([b"k"]) in ({}, {b"k": b"v"})  # root may write anywhere
        cache.close()
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_locked_file_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path).put_many({b"k": b"v"})
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    other = sqlite3.connect(database(tmp_path), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    cache = Cache(tmp_path)
    assert cache.get_many([b"k"]) == {}
    assert cache.failures == 1
    other.close()
    assert Cache(tmp_path).get_many([b"k"]) == {b"k": b"v"}


def test_size_is_bounded_and_the_recently_used_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400
    now = [100 * day]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    limit = 400_000
    keys = [f"{index:02}".encode() for index in range(30)]
    for key in keys:
        now[0] += day
        cache = Cache(tmp_path, max_bytes=limit)
        assert cache.get_many(keys[:1]) or key == keys[0]
        cache.put_many({key: os.urandom(20_000)})
        cache.close()
        assert database(tmp_path).stat().st_size <= limit + 60_000
    left = Cache(tmp_path).get_many(keys)
    assert keys[0] in left
    assert keys[-1] in left
    assert 5 < len(left) < 20


def test_knows_unchanged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    seen = old_file(path)
    cache = Cache(tmp_path / "c")
    cache.remember({str(path): (seen, b"digest")})
    cache.close()
    again = Cache(tmp_path / "c")
    assert again.known({str(path): seen, str(tmp_path / "b.py"): seen}) == {str(path): b"digest"}


def test_does_not_know_changed_files(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    seen = old_file(path)
    cache = Cache(tmp_path / "c")
    cache.remember({str(path): (seen, b"digest")})
    longer = old_file(path, "xy")
    assert cache.known({str(path): longer}) == {}
    replaced = old_file(tmp_path / "another inode")
    assert cache.known({str(path): replaced}) == {}
    same_size_and_times = os.stat_result(seen, {"st_mtime_ns": seen.st_mtime_ns, "st_ctime_ns": seen.st_ctime_ns + 1})
    assert cache.known({str(path): same_size_and_times}) == {}


def test_a_file_of_this_moment_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x")
    cache = Cache(tmp_path / "c")
    cache.remember({str(path): (path.stat(), b"digest")})
    assert cache.known({str(path): path.stat()}) == {}


def test_contents_decide_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    seen = old_file(path)
    cache = Cache(tmp_path / "c")
    cache.remember({str(path): (seen, b"digest")})
    monkeypatch.setenv("CI", "true")
    assert cache.known({str(path): seen}) == {}
    monkeypatch.setenv("CI", "0")
    assert cache.known({str(path): seen}) == {str(path): b"digest"}


def test_file_names_need_not_be_utf8(tmp_path: Path) -> None:
    seen = old_file(tmp_path / "a.py")
    path = os.fsdecode(b"/bad\xff.py")
    cache = Cache(tmp_path / "c")
    cache.remember({path: (seen, b"digest")})
    assert cache.known({path: seen}) == {path: b"digest"}


def test_another_process_replaces_a_damaged_file_meanwhile(tmp_path: Path) -> None:
    first = Cache(tmp_path)
    first.put_many({b"k": b"v"})
    file = database(tmp_path)
    file.write_bytes(b"garbage" * 1000)
    second = Cache(tmp_path)
    second.put_many({b"k": b"second"})
    first.put_many({b"k": b"first"})
    first.put_many({b"l": b"first"})
    first.close()
    second.close()
    last = Cache(tmp_path)
    assert last.get_many([b"k"])[b"k"] in (b"first", b"second")
    last.put_many({b"m": b"1"})
    assert last.get_many([b"m"]) == {b"m": b"1"}
    assert last.failures == 0
