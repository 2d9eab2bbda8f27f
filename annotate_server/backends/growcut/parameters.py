"""What an app of this backend may set."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from annotate_server.domain.errors import InvalidApp


@dataclass(frozen=True)
class GrowCutParameters:
    """`working_cells` is the most that a working grid may have; `remembered` how many answers are kept."""

    working_cells: int = 400_000
    remembered: int = 64

    def __post_init__(self) -> None:
        """Refuse sizes that no answer can be made with, or that take minutes."""
        if not 10_000 <= self.working_cells <= 2_000_000:
            raise ValueError(f"working_cells is {self.working_cells}; 10000 to 2000000 are allowed")
        if not 1 <= self.remembered <= 10_000:
            raise ValueError(f"remembered is {self.remembered}; 1 to 10000 are allowed")


def read_parameters(table: Mapping[str, object], app_name: str) -> GrowCutParameters:
    """Return the parameters of an app; raises InvalidApp with what is wrong in `[parameters]`."""
    known = {field.name for field in fields(GrowCutParameters)}
    values: dict[str, int] = {}
    for name, value in table.items():
        if name not in known:
            raise InvalidApp(f"[parameters] has the unknown key {name!r}", source=f"{app_name}/app.toml")
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidApp(f"[parameters] {name} is {value!r}, not a whole number", source=f"{app_name}/app.toml")
        values[name] = value
    try:
        return GrowCutParameters(**values)
    except ValueError as error:
        raise InvalidApp(f"[parameters] {error}", source=f"{app_name}/app.toml") from error
