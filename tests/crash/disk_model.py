"""What may be on the disk after a power cut, worked out from the system calls of a program that ran.

The model is strict POSIX. What was written to a file is there for sure only after an fsync of the file; that a file was
made, renamed or removed only after an fsync of its folder. Until then each of it may be there or not, in any order
(after "All File Systems Are Not Created Equal", OSDI 2014). Memory maps are not seen: of SQLite that is the -shm file,
which it makes anew.
"""

import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_CALLS = (
    "openat open creat write pwrite64 ftruncate fsync fdatasync rename renameat renameat2 unlink unlinkat mkdir mkdirat"
)
_UNMODELLED = "writev pwritev pwritev2 copy_file_range sendfile fallocate link linkat symlink symlinkat rmdir truncate"
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(\d+)<([^>]*)>")
ACK = b"ACK "
_MOST_LOST_ALONE = 12


@dataclass(frozen=True)
class Op:
    """One system call on a path below the root; an `ack` is what the program said was on the disk."""

    kind: str
    path: str = ""
    target: str = ""
    offset: int = 0
    content: bytes = b""
    says: str = ""

    @property
    def is_of_folder(self) -> bool:
        return self.kind in ("create", "rename", "unlink", "mkdir")


@dataclass(frozen=True)
class Tree:
    """Folders and files below a root, by relative path."""

    folders: frozenset[str]
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, root: Path) -> "Tree":
        below = list(root.rglob("*"))
        folders = frozenset(str(path.relative_to(root)) for path in below if path.is_dir())
        return cls(folders, {str(path.relative_to(root)): path.read_bytes() for path in below if path.is_file()})

    def write(self, root: Path) -> None:
        for folder in sorted(self.folders):
            (root / folder).mkdir(parents=True)
        for name, content in self.files.items():
            (root / name).write_bytes(content)


@dataclass(frozen=True)
class State:
    """A crash: after the first `after` operations, with some of them lost and perhaps one torn in half."""

    after: int
    lost: frozenset[int] = frozenset()
    torn: int | None = None


def record(command: Sequence[str], root: Path, log: Path) -> list[Op]:
    """Run a program that has one thread and return what it did below `root`."""
    calls = ",".join(f"?{name}" for name in f"{_CALLS} {_UNMODELLED}".split())
    tracing = [
        "strace",
        "-qq",
        "-y",
        "-xx",
        "-s",
        "4000000",
        "-o",
        str(log),
        "-e",
        f"trace={calls}",
        "-e",
        "signal=none",
    ]
    done = subprocess.run([*tracing, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")
    reading = _Reading(str(root))
    for line in log.read_text().splitlines():
        reading.take(line)
    return reading.ops


@dataclass
class _Reading:
    root: str
    ops: list[Op] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)

    def take(self, line: str) -> None:
        if "<unfinished" in line:
            raise NotImplementedError(f"two threads at once: {line[:200]}")
        match = _LINE.match(line)
        if match is None or match[3].startswith("-"):
            return
        name, arguments, result = match[1], match[2], int(match[3])
        strings = [_unhexed(text) for text in _STRING.findall(arguments)]
        described = _DESCRIPTOR.match(arguments)
        if name in ("openat", "open", "creat"):
            self._opened(strings[0], arguments, result)
        elif described is None:
            self._named(name, strings)
        else:
            path = _unhexed(described[2]) if "\\x" in described[2] else described[2].encode()
            self._written(name, int(described[1]), path, strings, (arguments, result))

    def _opened(self, path: bytes, arguments: str, descriptor: int) -> None:
        if (name := self._below(path)) is None:
            return
        self.positions[descriptor] = 0
        if "O_CREAT" in arguments:
            self.ops.append(Op("create", name))
        if "O_TRUNC" in arguments:
            self.ops.append(Op("truncate", name))

    def _named(self, call: str, strings: Sequence[bytes]) -> None:
        names = [name for text in strings if (name := self._below(text)) is not None]
        if names:
            kind = {"renameat": "rename", "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir"}.get(
                call, call
            )
            if kind not in ("rename", "unlink", "mkdir"):
                raise NotImplementedError(call)
            self.ops.append(Op(kind, names[0], names[-1]))

    def _written(
        self, call: str, descriptor: int, path: bytes, strings: Sequence[bytes], rest: tuple[str, int]
    ) -> None:
        arguments, result = rest
        if descriptor == 1 and strings and strings[0].startswith(ACK):
            self.ops += [Op("ack", says=said) for said in said_in(strings[0].decode())]
        name = self._below(path)
        if name is None:
            return
        last = int(number[1]) if (number := re.search(r", (\d+)$", arguments)) else 0
        if call == "write":
            last = self.positions.get(descriptor, 0)
            self.positions[descriptor] = last + result
        if call in ("write", "pwrite64"):
            self.ops.append(Op("write", name, offset=last, content=strings[0][:result]))
        elif call == "ftruncate":
            self.ops.append(Op("truncate", name, offset=last))
        elif call in ("fsync", "fdatasync"):
            self.ops.append(Op("sync", name))
        else:
            raise NotImplementedError(call)

    def _below(self, path: bytes) -> str | None:
        text = path.decode()
        if text == self.root:
            return "."
        if not text.startswith(self.root + "/") or text.endswith("-shm"):
            return None
        return text[len(self.root) + 1 :]


def states(ops: Sequence[Op]) -> Iterator[State]:
    """Yield every crash that is tried: for every prefix nothing lost, all that was not synced lost, each of the last
    twelve of it lost alone, each end of it lost, and the last write torn."""
    for after in range(1, len(ops) + 1):
        pending = unsynced(ops[:after])
        yield State(after)
        if pending:
            yield State(after, frozenset(pending))
        for index in pending[-_MOST_LOST_ALONE:]:
            yield State(after, frozenset([index]))
            yield State(after, frozenset(other for other in pending if other >= index))
        if pending and ops[pending[-1]].kind == "write":
            yield State(after, torn=pending[-1])


def unsynced(ops: Sequence[Op]) -> list[int]:
    """Return which operations a power cut may undo."""
    inode_of: dict[str, str] = {}
    pending: dict[int, tuple[str, str]] = {}
    for index, op in enumerate(ops):
        inode = inode_of.get(op.path, op.path)
        if op.kind == "create":
            inode_of[op.path] = f"{op.path}#{index}" if op.path not in inode_of else inode
        if op.is_of_folder:
            pending[index] = ("folder", _parent(op.target or op.path))
        elif op.kind in ("write", "truncate"):
            pending[index] = ("file", inode)
        elif op.kind == "sync":
            done = (("file", inode), ("folder", op.path))
            pending = {each: where for each, where in pending.items() if where not in done}
        if op.kind == "rename":
            inode_of[op.target] = inode_of.pop(op.path, op.path)
        elif op.kind == "unlink":
            inode_of.pop(op.path, None)
    return sorted(pending)


def after_crash(start: Tree, ops: Sequence[Op], state: State) -> Tree:
    """Return what is on the disk."""
    return _Disk(start).after(ops, state)


class _Disk:
    def __init__(self, start: Tree) -> None:
        self.folders = set(start.folders) | {"."}
        self.content: list[bytes | bytearray] = list(start.files.values())
        self.seen = {name: inode for inode, name in enumerate(start.files)}
        self.kept = dict(self.seen)

    def after(self, ops: Sequence[Op], state: State) -> Tree:
        for index, op in enumerate(ops[: state.after]):
            is_lost = index in state.lost
            if op.is_of_folder:
                self._rename_or_make(op, is_lost=is_lost)
            elif op.kind in ("write", "truncate") and not is_lost:
                half = len(op.content) // 2 if index == state.torn else None
                self._change(self.seen[op.path], op, op.content[:half])
        files = {name: bytes(self.content[inode]) for name, inode in self.kept.items() if self._is_reachable(name)}
        folders = {name for name in self.folders - {"."} if self._is_reachable(name)}
        return Tree(frozenset(folders), files)

    def _rename_or_make(self, op: Op, *, is_lost: bool) -> None:
        if op.kind == "mkdir":
            self.folders |= set() if is_lost else {op.path}
        elif op.kind == "create":
            if op.path not in self.seen:
                self.seen[op.path] = len(self.content)
                self.content.append(bytearray())
                if not is_lost:
                    self.kept[op.path] = self.seen[op.path]
        elif op.kind == "rename":
            self.seen[op.target] = self.seen.pop(op.path)
            if not is_lost:
                self.kept.pop(op.path, None)
                self.kept[op.target] = self.seen[op.target]
        else:
            self.seen.pop(op.path, None)
            if not is_lost:
                self.kept.pop(op.path, None)

    def _change(self, inode: int, op: Op, content: bytes) -> None:
        held = bytearray(self.content[inode])
        if op.kind == "truncate":
            held = held[: op.offset].ljust(op.offset, b"\0")
        else:
            held = held.ljust(op.offset, b"\0")
            held[op.offset : op.offset + len(content)] = content
        self.content[inode] = held

    def _is_reachable(self, name: str) -> bool:
        return all(str(parent) in self.folders for parent in PurePosixPath(name).parents)


def said_in(output: str) -> list[str]:
    """Return what a program said was on the disk."""
    return [line.removeprefix(ACK.decode()) for line in output.splitlines() if line.startswith(ACK.decode())]


def acknowledged(ops: Sequence[Op], after: int) -> Collection[str]:
    """Return what the program said was on the disk before the crash."""
    return {op.says for op in ops[:after] if op.kind == "ack"}


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _unhexed(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
