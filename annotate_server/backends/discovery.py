"""Finding backends by their entry points; one that cannot be imported stops nobody else."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from annotate_server.backends.environments.environment import Environment, RunsElsewhere
from annotate_server.domain.errors import BackendUnavailable
from annotate_server.domain.ports import Backend

GROUP = "annotate_server.backends"
_HINTS = {
    "torch": "pip install 'annotate-server[torch]'",
    "safetensors": "pip install 'annotate-server[torch]'",
    "openvino": "pip install 'annotate-server[openvino]'",
    "monai": "pip install 'annotate-server[monai]'",
}


class EntryPointBackends:
    """Fulfils `ports.BackendCatalogue`: imports a backend when it is first asked for."""

    def __init__(self) -> None:
        """Look for entry points of the group `annotate_server.backends`."""
        self._points: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=GROUP)}

    def names(self) -> tuple[str, ...]:
        """Return the name of every backend, importable or not."""
        return tuple(sorted(self._points))

    def get(self, name: str) -> Backend:
        """Return a backend; raises BackendUnavailable with what to run."""
        if name not in self._points:
            raise BackendUnavailable(
                f"there is no backend {name!r}", remedy=f"Installed are: {', '.join(self.names())}."
            )
        try:
            return cast("Backend", self._points[name].load()())
        except ImportError as error:
            missing = (error.name or "").split(".")[0]
            hint = _HINTS.get(missing)
            raise BackendUnavailable(
                f"the backend {name!r} cannot be imported ({error})",
                remedy=f"Run: {hint}" if hint else "See `annotate doctor`.",
            ) from error

    def unavailable(self) -> Mapping[str, str]:
        """Return, by name, why a backend cannot be used and what to do; tries to import every one."""
        reasons, kinds = self.looked_at()
        return {**without_environment(kinds), **reasons}

    def looked_at(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return why backends cannot be imported, and the kind of environment of those that need one, by name."""
        reasons, kinds = {}, {}
        for name in self.names():
            try:
                backend = self.get(name)
            except BackendUnavailable as error:
                reasons[name] = str(error)
                continue
            if isinstance(backend, RunsElsewhere):
                kinds[name] = backend.environment
        return reasons, kinds


def without_environment(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return, for backends by the kind of environment that each needs, what to do where there is none; cheap."""
    reasons = {}
    for name, kind in kinds.items():
        try:
            Environment.named(kind)
        except BackendUnavailable as error:
            reasons[name] = str(error)
    return reasons
