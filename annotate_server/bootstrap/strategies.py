"""The strategies that a project can choose: those that come with the server, and those of plug-ins."""

import logging
from collections.abc import Mapping
from importlib.metadata import entry_points

from annotate_server.domain.strategy import Strategy
from annotate_server.workflows.strategies import BUILT_IN

log = logging.getLogger(__name__)

GROUP = "annotate_server.strategies"


def strategies() -> Mapping[str, Strategy]:
    """Return every strategy by its name; a plug-in that cannot be imported is logged, and takes no built-in's name."""
    found: dict[str, Strategy] = {}
    for point in entry_points(group=GROUP):
        try:
            strategy: Strategy = point.load()()
        except (ImportError, AttributeError, TypeError) as error:
            log.warning("the strategy %s cannot be used: %s", point.name, error, extra={"action": "strategy"})
            continue
        found[strategy.name] = strategy
    return {**found, **BUILT_IN}
