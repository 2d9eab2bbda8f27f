"""What a simulation is asked for: how many rounds of what, from which scanner, and which labels are wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from annotate_server.workflows.simulated_cases import NEW_SITE, OLD_SITE, SimulatedCases, SimulationParts, label_id
from annotate_server.workflows.simulated_labels import Mistake, drawn_mistakes
from annotate_server.workflows.simulated_scanner import ScannerKind

SCRATCH, NAIVE = "scratch", "naive"


@dataclass(frozen=True)
class SimulationPlan:
    """What is simulated. `start` cases train the first champion from nothing; 0 takes the model's own weights.

    `corrupt` is the share of labels of the start, the rounds and the gate that are wrong. With `site_shift` the second
    half of the rounds, and of the gate, comes from another scanner, of the kind `scanner`. `baselines` are those that
    are asked for; scratch is trained in every `scratch_every`th round and in the last, and counted in every one (its
    steps are the same).
    """

    rounds: int
    per_round: int
    start: int = 10
    gate: int = 30
    test: int = 40
    seed: int = 0
    corrupt: float = 0.0
    site_shift: bool = False
    scanner: ScannerKind = ScannerKind.MILD
    baselines: frozenset[str] = frozenset({SCRATCH, NAIVE})
    scratch_every: int = 1

    @property
    def wanted(self) -> Mapping[str, int]:
        """Return how many cases each part needs."""
        return {"test": self.test, "gate": self.gate, "start": self.start, "pool": self.rounds * self.per_round}

    def site(self, number: int) -> str:
        """Return the site of the cases of a round, counted from 1."""
        return NEW_SITE if self.site_shift and number > self.rounds // 2 else OLD_SITE

    def tested_sites(self, number: int) -> tuple[str, ...]:
        """Return as which scanners show it the test part is asked after a round: the second from just before it comes.

        The site of the round is among them.
        """
        return (OLD_SITE, NEW_SITE) if self.site_shift and number >= self.rounds // 2 else (OLD_SITE,)

    def has_scratch(self, number: int) -> bool:
        """Say whether a round is followed by retraining from scratch."""
        return SCRATCH in self.baselines and (number % self.scratch_every == 0 or number == self.rounds)

    def gate_site(self, at: int) -> str:
        """Return the site of a case of the gate, counted from 0."""
        return NEW_SITE if self.site_shift and at >= self.gate // 2 else OLD_SITE


def with_mistakes(cases: SimulatedCases, plan: SimulationPlan, parts: SimulationParts) -> SimulatedCases:
    """Return the cases with the plan's share of the labels of each part wrong, those of the test part never."""
    pool = [
        label_id(name, plan.site(number + 1))
        for number in range(plan.rounds)
        for name in parts.pool[number * plan.per_round : (number + 1) * plan.per_round]
    ]
    gate = [label_id(name, plan.gate_site(at)) for at, name in enumerate(parts.gate)]
    start = [label_id(name) for name in parts.start]
    mistakes: dict[str, Mistake] = {}
    for part, labels in enumerate((pool, gate, start)):
        mistakes |= drawn_mistakes(labels, plan.corrupt, plan.seed * 10 + part)
    others = {label_id(name, site): other for name, other in _neighbours(parts) for site in (OLD_SITE, NEW_SITE)}
    return replace(cases, mistakes=mistakes, others=others)


def _neighbours(parts: SimulationParts) -> Iterable[tuple[str, str]]:
    """Yield every case that may be labelled wrongly with another one, whose label it may get."""
    names = (*parts.start, *parts.gate, *parts.pool)
    return zip(names, (*names[1:], *names[:1]), strict=True)
