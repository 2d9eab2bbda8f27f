"""Apps as folders of data: `<folder>/<name>/app.toml` becomes an App."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from annotate_server.domain.errors import AnnotateError, InvalidApp, InvalidRequest, UnknownModel
from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, CodedConcept, Segment, check_segments
from annotate_server.domain.model import App, Locator, ModelCard, WeightFile
from annotate_server.domain.prompt import PromptKind
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.volume import Modality

Value = TypeVar("Value")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class FolderApps:
    """The apps below one or more folders; where two have the same name, the first folder's counts."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Look in `folders`, in this order."""
        self._folders = tuple(folders)
        self._read: dict[Path, tuple[tuple[int, int], App]] = {}

    def names(self) -> tuple[str, ...]:
        """Return the name of every app, sorted; a broken one is among them."""
        return tuple(sorted({path.parent.name for folder in self._folders for path in folder.glob("*/app.toml")}))

    def get(self, name: str) -> App:
        """Return an app; UnknownModel lists those that there are, InvalidApp says what is wrong with it."""
        for folder in self._folders:
            if _NAME.fullmatch(name) and (folder / name / "app.toml").is_file():
                return self._known(folder / name)
        raise UnknownModel(f"there is no model {name!r}", remedy=f"Choose one of: {', '.join(self.names())}.")

    def _known(self, folder: Path) -> App:
        """Return an app as it was read before, where its description has not changed: clients list them often."""
        status = (folder / "app.toml").stat()
        stamp = (status.st_mtime_ns, status.st_size)
        kept = self._read.get(folder)
        if kept is None or kept[0] != stamp:
            kept = (stamp, read_app(folder))
            self._read[folder] = kept
        return kept[1]


def read_app(folder: Path) -> App:
    """Return the app that `app.toml` in `folder` describes; raises InvalidApp."""
    content = (folder / "app.toml").read_bytes()
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidApp(f"it is not TOML: {error}", source=_label(folder)) from error
    return app_of(table, folder.name, folder, hashlib.sha256(content).hexdigest())


def app_of(table: Mapping[str, object], name: str, folder: Path, digest: str) -> App:
    """Return the app that a table of the form of `app.toml` describes; raises InvalidApp that names what is wrong."""
    return _Reader(table, _label(folder)).app(name, folder, digest)


def _label(folder: Path) -> str:
    return f"{folder.name}/app.toml"


_TOP = {
    *("title", "purpose", "not_for", "backend", "modalities", "body_part", "licence", "attribution", "drafts"),
    *("trainable", "prompts", "min_slices", "figures", "segments", "weights", "locator", "parameters", "recipe"),
}


class _Reader:
    """Reads one table of TOML and names what is wrong in it."""

    def __init__(self, table: Mapping[str, object], label: str) -> None:
        self._table = table
        self._label = label

    def app(self, name: str, folder: Path, digest: str) -> App:
        if unknown := set(self._table) - _TOP:
            self._refuse(f"it has the unknown keys {', '.join(sorted(unknown))}")
        return App(
            name=name,
            folder=folder,
            backend=self._get("backend", str),
            card=self._card(),
            weights=tuple(self._weight(entry) for entry in self._tables("weights")),
            parameters=cast("Mapping[str, object]", self._get("parameters", dict, {})),
            digest=digest,
            recipe=self._recipe(),
        )

    def _card(self) -> ModelCard:
        segments = tuple(self._segment(entry) for entry in self._tables("segments"))
        try:
            check_segments(segments)
            modalities = tuple(Modality(code) for code in self._texts("modalities"))
            prompts = frozenset(PromptKind(kind) for kind in self._texts("prompts", ()))
        except (AnnotateError, ValueError) as error:
            self._refuse(str(error))
        return ModelCard(
            title=self._get("title", str),
            purpose=self._get("purpose", str),
            not_for=self._get("not_for", str),
            modalities=modalities,
            segments=segments,
            licence=self._get("licence", str),
            attribution=self._get("attribution", str),
            prompts=prompts,
            drafts=self._get("drafts", bool, True),
            trainable=self._get("trainable", bool, False),
            body_part=self._get("body_part", str, ""),
            locator=self._locator(),
            min_slices=self._get("min_slices", int, 3),
            figures=self._texts("figures", ()),
        )

    def _segment(self, entry: "_Reader") -> Segment:
        red, green, blue = entry._numbers("colour", 3)
        try:
            return Segment(
                index=entry._get("index", int),
                name=entry._get("name", str),
                colour=(red, green, blue),
                kind=entry._concept("kind"),
                category=entry._concept("category") or ANATOMICAL_STRUCTURE,
                laterality=entry._concept("laterality"),
            )
        except AnnotateError as error:
            self._refuse(str(error))

    def _weight(self, entry: "_Reader") -> WeightFile:
        name = entry._get("name", str)
        if Path(name).name != name:
            entry._refuse(f"the weights {name!r} must be a plain file name")
        return WeightFile(
            name=name,
            sha256=entry._get("sha256", str),
            size_bytes=entry._get("size_bytes", int),
            url=entry._get("url", str, "") or None,
            bundled=entry._get("bundled", bool, False),
        )

    def _locator(self) -> Locator | None:
        if "locator" not in self._table:
            return None
        entry = _Reader(cast("Mapping[str, object]", self._get("locator", dict)), f"{self._label} [locator]")
        return Locator(
            model=entry._get("model", str),
            segment=entry._get("segment", str),
            max_extent_mm=float(entry._get("max_extent_mm", (int, float))),
            margin_mm=float(entry._get("margin_mm", (int, float))),
            min_volume_ml=float(entry._get("min_volume_ml", (int, float), 0.0)),
        )

    def _recipe(self) -> Recipe | None:
        if "recipe" not in self._table:
            return None
        entry = _Reader(cast("Mapping[str, object]", self._get("recipe", dict)), f"{self._label} [recipe]")
        if unknown := set(entry._table) - {field.name for field in fields(Recipe)}:
            entry._refuse(f"it has the unknown keys {', '.join(sorted(unknown))}")
        try:
            return Recipe(**{key: entry._recipe_value(key) for key in entry._table})
        except (InvalidRequest, ValueError) as error:
            entry._refuse(str(error))

    def _recipe_value(self, key: str) -> Any:
        """Return a value of a recipe in the type of its default."""
        if key == "patch":
            return self._numbers(key, 3)
        if key == "mirror_axes":
            axes = self._get(key, list)
            if not all(axis in (0, 1, 2) for axis in axes):
                self._refuse(f"{key!r} must be axes: 0, 1 or 2")
            return tuple(axes)
        if key == "sweep":
            shares = self._get(key, list)
            if not all(isinstance(share, int | float) for share in shares):
                self._refuse(f"{key!r} must be a list of numbers")
            return tuple(float(share) for share in shares)
        usual = getattr(Recipe(), key)
        if isinstance(usual, StrEnum):
            return type(usual)(self._get(key, str))
        return float(self._get(key, (int, float))) if isinstance(usual, float) else self._get(key, int)

    def _concept(self, key: str) -> CodedConcept | None:
        if key not in self._table:
            return None
        texts = self._texts(key)
        if len(texts) != 3:
            self._refuse(f"{key!r} must be [value, scheme, meaning]")
        return CodedConcept(*texts)

    def _tables(self, key: str) -> tuple["_Reader", ...]:
        entries = self._get(key, list, [])
        if not all(isinstance(entry, dict) for entry in entries):
            self._refuse(f"{key!r} must be a list of tables")
        return tuple(_Reader(entry, f"{self._label} [[{key}]] {n}") for n, entry in enumerate(entries, 1))

    def _texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        values = self._get(key, list, None if default is None else list(default))
        if not all(isinstance(value, str) for value in values):
            self._refuse(f"{key!r} must be a list of texts")
        return tuple(values)

    def _numbers(self, key: str, count: int) -> tuple[int, ...]:
        values = self._get(key, list)
        if len(values) != count or not all(isinstance(value, int) for value in values):
            self._refuse(f"{key!r} must be {count} whole numbers")
        return tuple(values)

    def _get(self, key: str, kind: type[Value] | tuple[type[Value], ...], default: Value | None = None) -> Value:
        value = self._table.get(key, default)
        if value is None:
            self._refuse(f"{key!r} is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            self._refuse(f"{key!r} has the wrong type ({type(value).__name__})")
        return value

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidApp(what, source=self._label, remedy="Correct the file; another app's shows the form.")
