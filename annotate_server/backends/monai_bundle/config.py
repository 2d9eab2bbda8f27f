"""The configuration of a bundle: JSON or YAML with references, resolved key by key as plain data."""

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, NoReturn, cast

from annotate_server.backends.monai_bundle.expressions import (
    Value,
    is_expression,
    is_hostile,
    is_import,
    meaning,
)
from annotate_server.backends.monai_bundle.files import METADATA, BundleFiles
from annotate_server.domain.errors import BackendUnavailable, InvalidApp

Table = Mapping[str, Value]
_DEEPEST = 40
_LARGEST_NODES = 200_000
_NOTHING = object()
"""What stands for a value that is not there: None is one that is."""


class Config:
    """One configuration file; only what is asked for is resolved, and nothing of it is run."""

    def __init__(self, table: Table, label: str) -> None:
        """Take the parsed file; raises InvalidApp where an expression reaches for the machine."""
        self._table = table
        self._label = label
        self._pending: list[str] = []
        self._budget = _LARGEST_NODES
        for key, value in _leaves(table):
            if is_expression(value) and is_hostile(cast("str", value)) and not is_import(cast("str", value)):
                raise InvalidApp(
                    f"{key!r} holds an expression that reaches for the machine: {str(value)[:120]!r}",
                    source=label,
                    remedy="Do not use this bundle.",
                )

    @classmethod
    def of(cls, files: BundleFiles, name: str) -> "Config":
        """Read a configuration file of a bundle."""
        return cls(_parsed(files, name), f"{files.label}/{name}")

    def has(self, key: str) -> bool:
        """Say whether there is a value at an id."""
        return self._find(key) is not _NOTHING

    def names(self, key: str) -> tuple[str, ...]:
        """Return the ids right below an id, none where there is no list or table; nothing is resolved."""
        value = self._find(key)
        if isinstance(value, dict):
            return tuple(f"{key}::{name}" for name in value)
        return tuple(f"{key}::{number}" for number in range(len(value))) if isinstance(value, list) else ()

    def get(self, key: str) -> Value:
        """Return the value at an id (`a`, `a::b` or `a#b`), every reference in it resolved; raises InvalidApp."""
        key = key.replace("#", "::")
        if len(self._pending) > _DEEPEST or key in self._pending:
            self._refuse(f"{key!r} refers to itself")
        self._pending.append(key)
        try:
            return self._resolved(self._raw(key), key)
        except InvalidApp as error:
            error.source = error.source or self._label
            raise
        except RecursionError:
            self._refuse(f"{key!r} is nested too deeply")
        finally:
            self._pending.pop()

    def _raw(self, key: str) -> Value:
        value = self._find(key)
        if value is _NOTHING:
            self._refuse(f"{key!r} is missing")
        return value

    def _find(self, key: str) -> Value:
        value: Value = self._table
        for part in key.split("::"):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                return _NOTHING
        return value

    def _resolved(self, value: Value, key: str) -> Value:
        # References to references can double a configuration again and again.
        self._budget -= 1
        if self._budget < 0:
            self._refuse("the configuration says more than any bundle needs")
        if isinstance(value, dict):
            return {own: self._resolved(inner, f"{key}::{own}") for own, inner in value.items()}
        if isinstance(value, list):
            items = [self._resolved(inner, f"{key}::{place}") for place, inner in enumerate(value)]
            return [item for item in items if not _is_disabled(item)]
        if isinstance(value, str) and value.startswith("$"):
            return meaning(value, key, self.get)
        if isinstance(value, str) and value.startswith("@"):
            return self.get(value[1:])
        if isinstance(value, str) and value.startswith("%"):
            self._refuse(f"{key!r} copies from another file ({value!r}), which is not followed")
        return value

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidApp(what, source=self._label, remedy="Correct the bundle's configuration.")


def metadata_of(files: BundleFiles) -> Table:
    """Return the bundle's `metadata.json`; raises InvalidApp."""
    return _parsed(files, METADATA)


def _parsed(files: BundleFiles, name: str) -> Table:
    text = files.text(name)
    try:
        table = json.loads(text) if PurePosixPath(name).suffix == ".json" else _yaml(text)
    except (ValueError, RecursionError) as error:
        raise InvalidApp(f"{name} cannot be read: {error}", source=files.label) from error
    if not isinstance(table, dict):
        raise InvalidApp(f"{name} is no table", source=files.label)
    return table


def _yaml(text: str) -> object:
    """Parse YAML without tags that make objects; ValueError for what is no YAML, or refers to itself."""
    try:
        yaml = cast("Any", import_module("yaml"))
    except ImportError as error:
        raise BackendUnavailable(
            "the bundle is described in YAML, which cannot be read here",
            remedy="Run: pip install 'annotate-server[monai]'",
        ) from error
    try:
        parsed: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error
    return parsed


def _leaves(value: object, key: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield every value that is no table and no list, with its id; an alias of YAML may be met often."""
    pending = [(key, value, depth)]
    for _ in range(_LARGEST_NODES):
        if not pending:
            return
        key, value, depth = pending.pop()
        if depth > _DEEPEST:
            raise InvalidApp(f"{key[:80]!r} is nested too deeply")
        if isinstance(value, dict):
            pending += [(f"{key}::{own}" if key else str(own), inner, depth + 1) for own, inner in value.items()]
        elif isinstance(value, list):
            pending += [(f"{key}::{place}", inner, depth + 1) for place, inner in enumerate(value)]
        else:
            yield key, value
    raise InvalidApp("the configuration holds more values than any bundle needs")


def _is_disabled(item: Value) -> bool:
    return isinstance(item, dict) and item.get("_disabled_") is True
