"""A power cut at any moment of any write: what was acknowledged is there, and nothing is there by half."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from disk_model import Op, State, Tree, acknowledged, after_crash, record, said_in, states, unsynced
from sqlalchemy import text
from store_program import OPERATIONS, fact_digests, opened, prepare

from annotate_server.domain.errors import AnnotateError
from annotate_server.stores.workspace_check import check_workspace

SOME = 200
PROGRAM = Path(__file__).parent / "store_program.py"
TOGETHER = """
SELECT (SELECT count(*) FROM label) - (SELECT count(*) FROM audit WHERE action = 'label-accepted'),
       (SELECT count(*) FROM event) - (SELECT count(*) FROM audit WHERE action = 'draft-changed'),
       (SELECT count(*) FROM review) - (SELECT count(*) FROM audit WHERE action = 'label-returned'),
       (SELECT count(*) FROM label WHERE id NOT IN (SELECT label_id FROM label_layer)),
       (SELECT count(*) FROM session WHERE (state = 'submitted')
           != (id IN (SELECT session_id FROM label WHERE session_id IS NOT NULL))),
       (SELECT count(*) FROM session s WHERE revision !=
           coalesce((SELECT max(revision) FROM event e WHERE e.session_id = s.id), 0)
           AND revision != (SELECT count(*) FROM audit WHERE subject = s.id AND action LIKE 'draft-%'))
"""


@pytest.fixture(scope="session", autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is needed: apt-get install strace")
        pytest.skip("strace is not installed (apt-get install strace)")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    workspace = tmp_path_factory.mktemp("prepared")
    stores = opened(workspace)
    prepare(stores)
    stores.database.close()
    return Tree.of(workspace)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Give a folder that is quick to fill and to empty: durability is not asked of it."""
    fast = Path("/dev/shm")  # noqa: S108  a folder of its own is made there
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        yield Path(folder)


def recorded(start: Tree, folder: Path, operation: str, *more: str) -> list[Op]:
    workspace = folder / "workspace"
    workspace.mkdir()
    start.write(workspace)
    return record([sys.executable, "-B", str(PROGRAM), str(workspace), operation, *more], workspace, folder / "log")


def violations(
    start: Tree, ops: Sequence[Op], folder: Path, crashes: Iterable[State], most: int | None = None
) -> tuple[int, Counter[str]]:
    """Return how many different crashes were tried, at most `most`, and what was wrong after them."""
    found: Counter[str] = Counter()
    tried: set[int] = set()
    for state in crashes:
        tree = after_crash(start, ops, state)
        said = acknowledged(ops, state.after)
        key = hash((frozenset(tree.files.items()), tree.folders, frozenset(said)))
        if key not in tried:
            tried.add(key)
            found.update(wrong(tree, said, folder / str(len(tried))))
        if len(tried) == most:
            break
    return len(tried), found


def first_violation(start: Tree, ops: Sequence[Op], folder: Path) -> Counter[str]:
    """Return what is wrong after the first crash that does harm; those that lose most are tried first."""
    for number, state in enumerate(sorted(states(ops), key=lambda state: -len(state.lost))):
        own = folder / f"first{number}"
        own.mkdir()
        if found := violations(start, ops, own, [state])[1]:
            return found
    return Counter()


def mixed(ops: Sequence[Op]) -> Sequence[State]:
    """Return every crash, in an order that is the same each time and favours no part of the run."""
    every = list(states(ops))
    random.Random(len(every)).shuffle(every)  # noqa: S311  nothing secret
    return every


def wrong(tree: Tree, said: Collection[str], workspace: Path) -> Iterator[str]:
    workspace.mkdir()
    tree.write(workspace)
    try:
        stores = opened(workspace)
    except AnnotateError as error:
        yield f"it does not open: {error}"
        return
    yield from check_workspace(stores.database, stores.blobs).faults
    lost = set(said).difference(fact_digests(stores))
    yield from (f"lost: {fact.split()[0]}" for fact in lost)
    with stores.database.reading() as connection:
        apart = tuple(connection.execute(text(TOGETHER)).one())
    if any(apart):
        yield f"half of a transaction: {apart}"
    stores.database.close()
    shutil.rmtree(workspace)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_power_cut_loses_nothing_that_was_acknowledged(
    prepared: Tree, tmp_path: Path, in_memory: Path, operation: str
) -> None:
    start = Tree(frozenset(), {}) if operation == "first-start" else prepared
    ops = recorded(start, tmp_path, operation)
    assert sum(op.kind == "ack" for op in ops) >= 4
    tried, found = violations(start, ops, in_memory, mixed(ops), most=SOME)
    assert found == {}
    assert tried == SOME


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_power_cut_at_all_loses_anything(
    prepared: Tree, tmp_path: Path, in_memory: Path, operation: str, record_property: Callable[[str, object], None]
) -> None:
    start = Tree(frozenset(), {}) if operation == "first-start" else prepared
    ops = recorded(start, tmp_path, operation)
    tried, found = violations(start, ops, in_memory, states(ops))
    record_property("crashes", tried)
    assert found == {}


def _is_part(op: Op) -> bool:
    return "/.part-" in op.path


def _is_folder_of_blob(op: Op) -> bool:
    return op.path.startswith("blobs/") and op.path.count("/") == 1 and not _is_part(op)


def _is_blobs(op: Op) -> bool:
    return op.path == "blobs"


def _is_log(op: Op) -> bool:
    return op.path.endswith("-wal")


KINDS_OF_SYNC = pytest.mark.parametrize("which", [_is_part, _is_folder_of_blob, _is_blobs, _is_log])


def notices(prepared: Tree, ops: Sequence[Op], folder: Path, which: Callable[[Op], bool]) -> bool:
    mutant = [op for op in ops if op.kind != "sync" or not which(op)]
    assert len(mutant) < len(ops)
    return bool(first_violation(prepared, mutant, folder))


@KINDS_OF_SYNC
def test_it_is_noticed_when_one_kind_of_sync_is_left_out(
    prepared: Tree, tmp_path: Path, in_memory: Path, which: Callable[[Op], bool]
) -> None:
    assert notices(prepared, recorded(prepared, tmp_path, "labels"), in_memory, which)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["events", "undo", "predictions", "snapshots"])
@KINDS_OF_SYNC
def test_it_is_noticed_whatever_is_written(
    prepared: Tree, tmp_path: Path, in_memory: Path, operation: str, which: Callable[[Op], bool]
) -> None:
    assert notices(prepared, recorded(prepared, tmp_path, operation), in_memory, which)


@pytest.mark.parametrize("operation", ["reviews", "labels"])
def test_it_is_noticed_when_sqlite_does_not_sync_each_transaction(
    prepared: Tree, tmp_path: Path, in_memory: Path, operation: str
) -> None:
    ops = recorded(prepared, tmp_path, operation, "NORMAL")
    assert any(fault.startswith("lost") for fault in first_violation(prepared, ops, in_memory))


def test_it_is_noticed_when_a_row_is_written_before_its_blob(prepared: Tree, tmp_path: Path, in_memory: Path) -> None:
    ops = recorded(prepared, tmp_path, "snapshots")
    blobs = [op for op in ops if op.path.startswith("blobs")]
    rest = [op for op in ops if not op.path.startswith("blobs")]
    first_ack = next(index for index, op in enumerate(rest) if op.kind == "ack")
    reordered = [*rest[:first_ack], *blobs, *rest[first_ack:]]
    assert any("is gone" in fault for fault in first_violation(prepared, reordered, in_memory))


def refusals(
    prepared: Tree, folder: Path, call: str, errors: tuple[str, str], points: Iterable[int]
) -> Iterator[tuple[int, str]]:
    """Yield what the program said of each failed call; ends where there is no such call any more."""
    for point in points:
        workspace = folder / f"{call}{point}"
        workspace.mkdir()
        prepared.write(workspace)
        inject = f"inject={call}:error={errors[0]}:when={point}"
        tracing = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        program = [sys.executable, "-B", str(PROGRAM), str(workspace), "labels"]
        done = subprocess.run([*tracing, *program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        refused = [line for line in done.stdout.splitlines() if line.startswith("REFUSED")]
        assert list(wrong(Tree.of(workspace), said_in(done.stdout), folder / "after")) == []
        assert [path for path in workspace.rglob(".part-*") if "after" not in path.parts] == []
        if not refused:
            return
        yield point, refused[0]


FAILING_CALLS = pytest.mark.parametrize("call", ["write", "pwrite64", "fsync", "fdatasync", "mkdir", "rename"])


@FAILING_CALLS
def test_a_full_disk_is_told_and_nothing_is_lost_or_left_half(prepared: Tree, in_memory: Path, call: str) -> None:
    told = dict(refusals(prepared, in_memory, call, ("ENOSPC", "NoSpace"), (1, 4)))
    assert all("NoSpace" in refusal or call in ("fsync", "fdatasync") for refusal in told.values()), told


@pytest.mark.slow
@FAILING_CALLS
def test_a_full_disk_at_any_moment_is_told(prepared: Tree, in_memory: Path, call: str) -> None:
    told = dict(refusals(prepared, in_memory, call, ("ENOSPC", "NoSpace"), range(1, 200)))
    assert all("NoSpace" in refusal or call in ("fsync", "fdatasync") for refusal in told.values()), told


def test_the_model_forgets_what_was_not_synced() -> None:
    start = Tree(frozenset({"a"}), {"a/old": b"old"})
    ops = [
        Op("create", "a/new"),
        Op("write", "a/new", content=b"content"),
        Op("sync", "a/new"),
        Op("rename", "a/new", "a/old"),
        Op("sync", "a"),
    ]
    ends = [unsynced(ops[:after]) for after in range(1, 6)]
    assert ends == [[0], [0, 1], [0], [0, 3], []]
    assert after_crash(start, ops, State(4, frozenset([3]))).files == {"a/old": b"old", "a/new": b"content"}
    assert after_crash(start, ops, State(4, frozenset([0, 3]))).files == {"a/old": b"old"}
    assert after_crash(start, ops, State(4)).files == {"a/old": b"content"}
    assert after_crash(start, ops, State(2, torn=1)).files["a/new"] == b"con"
    counts = [len(list(states(ops[:after]))) for after in range(6)]
    assert all(fewer < more for fewer, more in pairwise(counts))


def test_the_model_loses_what_lies_in_a_folder_that_was_lost() -> None:
    ops = [Op("mkdir", "a"), Op("create", "a/b"), Op("write", "a/b", content=b"x"), Op("sync", "a/b"), Op("sync", "a")]
    assert unsynced(ops) == [0]
    assert after_crash(Tree(frozenset(), {}), ops, State(5, frozenset([0]))) == Tree(frozenset(), {})
