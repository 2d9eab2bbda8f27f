"""The `[parameters]` of an app of `nnunet`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.model import App

PLAN = "plan.json"
"""The file of an app that keeps what its network and its preprocessing need of nnU-Net's plans and dataset."""


@dataclass(frozen=True)
class NnunetParameters:
    """What was trained, and what may be changed about how it predicts.

    `folds` are the files of weights whose class values are averaged. `orientation` is how the axes (k, j, i) of the
    training volumes ran ("SAR"), empty for as each volume is stored. `mirror_axes` are those of the network's array.
    `overlap` is what neighbouring tiles share.
    """

    configuration: str
    trainer: str
    folds: tuple[str, ...]
    orientation: str = ""
    mirror_axes: tuple[int, ...] = ()
    overlap: float = 0.5

    @classmethod
    def of(cls, app: App) -> "NnunetParameters":
        """Return the parameters of an app; InvalidApp names what is wrong."""
        table = dict(app.parameters)
        try:
            parameters = cls(
                configuration=str(table.pop("configuration")),
                trainer=str(table.pop("trainer")),
                folds=tuple(str(name) for name in cast("list[str]", table.pop("folds"))),
                orientation=str(table.pop("orientation", "")),
                mirror_axes=tuple(int(axis) for axis in cast("list[int]", table.pop("mirror_axes", []))),
                overlap=float(cast("float", table.pop("overlap", 0.5))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidApp(f"its parameters are not complete: {error}", source=app.name) from error
        if table:
            raise InvalidApp(f"its parameters {sorted(table)} are unknown to nnunet", source=app.name)
        parameters.check(app.name)
        return parameters

    def check(self, model: str) -> None:
        """Refuse what no prediction can be made with."""
        letters = {"".join(sorted(pair)) for pair in ("LR", "AP", "IS")}
        named = {pair for pair in letters for letter in self.orientation if letter in pair}
        if self.orientation and (len(self.orientation) != 3 or named != letters):
            raise InvalidApp(f"{self.orientation!r} is no orientation such as SAR", source=model)
        if not self.folds or not set(self.mirror_axes) <= {0, 1, 2} or not 0 <= self.overlap < 1:
            raise InvalidApp("its folds, mirror_axes or overlap make no sense", source=model)

    def table(self) -> Mapping[str, object]:
        """Return the parameters as lists, texts and numbers."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
