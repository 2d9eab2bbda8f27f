"""What a simulation found: the figures of each round and of the baselines, and as the object that `--json` prints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from annotate_server.domain.learning import SegmentWork
from annotate_server.imaging.json_numbers import finite
from annotate_server.workflows.simulation_plan import NAIVE, SCRATCH

WORSE_DICE = 0.01
"""A promotion after which the test part is worse by more than this is listed."""


@dataclass(frozen=True)
class Figures:
    """How a version does on cases: means over cases and segments; `cases` are by name."""

    dice: float
    surface_dice: float
    apl_mm: float
    relative_apl: float
    cases: Mapping[str, "Figures"] = field(default_factory=dict)


def figures_of(cases: Mapping[str, Mapping[str, SegmentWork]]) -> Figures:
    """Return the means over cases of the means over segments; the added path length is the sum over segments."""
    by_case = {name: _case(list(works.values())) for name, works in cases.items() if works}
    means = {
        measure: float(np.mean([getattr(case, measure) for case in by_case.values()])) if by_case else float("nan")
        for measure in ("dice", "surface_dice", "apl_mm", "relative_apl")
    }
    return Figures(**means, cases=by_case)


def _case(works: list[SegmentWork]) -> Figures:
    return Figures(
        dice=float(np.mean([work.dice for work in works])),
        surface_dice=float(np.mean([work.surface_dice for work in works])),
        apl_mm=float(np.sum([work.apl_mm for work in works])),
        relative_apl=float(np.mean([work.relative_apl for work in works])),
    )


@dataclass(frozen=True)
class PhysicianWork:
    """What the robot physician did in a round: a case on average, by the constants of `effort`."""

    seconds: float
    from_nothing_s: float


@dataclass(frozen=True)
class SimulatedRound:
    """One round. `test` is the serving version after it, `drafts` what the version before it drafted of its new cases.

    `sites` are the figures of the test part by scanner, where there are two. `scratch` and `naive` are the
    baselines after the same labels, None where they were not asked for. `seconds` are those of training and gate.
    """

    number: int
    site: str
    labels: int
    test: Figures
    drafts: Figures
    physician: PhysicianWork
    verdict: str
    reason: str
    promoted: bool
    version: str
    share: float
    seconds: float
    steps: int
    training_voxels: int
    drafted_voxels: int
    named: tuple[str, ...] = ()
    sites: Mapping[str, Figures] = field(default_factory=dict)
    scratch: "Baseline | None" = None
    naive: "Baseline | None" = None

    def shown(self, way: str) -> Mapping[str, Figures]:
        """Return the figures by scanner of the loop or of a baseline, by its name; nothing where it was left out."""
        row = {"loop": self, SCRATCH: self.scratch, NAIVE: self.naive}[way]
        return {} if row is None else row.sites


@dataclass(frozen=True)
class Baseline:
    """Another way to use the same labels: its figures on the test part, and what it took."""

    test: Figures
    voxels: int
    seconds: float
    sites: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistakes:
    """Which labels were wrong, and which of them the rounds named."""

    wrong: Mapping[str, str]
    named: tuple[str, ...]

    @property
    def as_json(self) -> Mapping[str, object]:
        """Return the counts and the names."""
        found = set(self.named) & set(self.wrong)
        return {
            "wrong": len(self.wrong),
            "named": len(self.named),
            "found": len(found),
            "missed": len(set(self.wrong) - found),
            "falsely_named": len(set(self.named) - found),
            "by_kind": {
                kind: {
                    "wrong": sum(each == kind for each in self.wrong.values()),
                    "found": sum(self.wrong[label] == kind for label in found),
                }
                for kind in sorted(set(self.wrong.values()))
            },
        }


@dataclass(frozen=True)
class Simulation:
    """Everything that a simulation found; `start` is the version that it began with, on the test part."""

    model: str
    start: Figures
    start_voxels: int
    rounds: tuple[SimulatedRound, ...]
    mistakes: Mistakes
    settings: Mapping[str, object]

    @property
    def compute_ratio(self) -> float | None:
        """Return what the rounds took (training, sweep, gate, check of labels) beside retraining every time.

        A round in which the baseline was left out counts as those in which it was not: its steps are the same.
        """
        scratch = [each.scratch.voxels for each in self.rounds if each.scratch is not None]
        spent = sum(each.training_voxels + each.drafted_voxels for each in self.rounds)
        return spent / (sum(scratch) / len(scratch) * len(self.rounds)) if scratch else None

    @property
    def forgotten(self) -> Mapping[str, Mapping[str, float | None]]:
        """Return the Dice that was lost on the test part, by way of learning and scanner; positive is lost.

        Of the first scanner since the round before the second one came, of the second since the round that was best for
        it. None where the way was not followed in such a round; empty where there is one scanner only.
        """
        switch = next((at for at, each in enumerate(self.rounds) if each.site != self.rounds[0].site), 0)
        if switch == 0:
            return {}
        first, second = self.rounds[switch - 1].site, self.rounds[switch].site
        found: dict[str, Mapping[str, float | None]] = {}
        for name in ("loop", SCRATCH, NAIVE):
            shown = [each.shown(name) for each in self.rounds]
            known = [sites[second].dice for sites in shown[switch:] if second in sites]
            found[name] = {
                first: _loss(shown[switch - 1].get(first), shown[-1].get(first)),
                second: max(known) - shown[-1][second].dice if second in shown[-1] else None,
            }
        return found

    @property
    def worse_promotions(self) -> tuple[int, ...]:
        """Return the rounds whose promotion made the test part worse by more than `WORSE_DICE`."""
        before = (self.start, *(each.test for each in self.rounds))
        return tuple(
            each.number
            for each, former in zip(self.rounds, before, strict=False)
            if each.promoted and each.test.dice < former.dice - WORSE_DICE
        )


def simulation_as_json(simulation: Simulation) -> Mapping[str, object]:
    """Return the object; a baseline that was not asked for is null."""
    last = simulation.rounds[-1]
    table = {
        "model": simulation.model,
        "settings": dict(simulation.settings),
        "start": _figures(simulation.start),
        "rounds": [_round(each) for each in simulation.rounds],
        "start_mean_dice": simulation.start.dice,
        "final_mean_dice": last.test.dice,
        "scratch_mean_dice": last.scratch.test.dice if last.scratch else None,
        "naive_mean_dice": last.naive.test.dice if last.naive else None,
        "start_relative_apl": simulation.start.relative_apl,
        "final_relative_apl": last.test.relative_apl,
        "scratch_relative_apl": last.scratch.test.relative_apl if last.scratch else None,
        "naive_relative_apl": last.naive.test.relative_apl if last.naive else None,
        "compute_ratio": simulation.compute_ratio,
        "start_voxels": simulation.start_voxels,
        "promotions": sum(each.promoted for each in simulation.rounds),
        "refusals": sum(not each.promoted for each in simulation.rounds),
        "worse_promotions": list(simulation.worse_promotions),
        "forgetting": simulation.forgotten or None,
        "mistakes": simulation.mistakes.as_json,
    }
    return {key: finite(value) for key, value in table.items()}


def _round(each: SimulatedRound) -> Mapping[str, object]:
    rest = ("number", "site", "labels", "verdict", "reason", "promoted", "version", "share", "seconds", "steps")
    return {
        **{name: getattr(each, name) for name in rest},
        **_figures(each.test),
        "training_voxels": each.training_voxels,
        "drafted_voxels": each.drafted_voxels,
        "drafts": _figures(each.drafts),
        "physician": asdict(each.physician),
        "named_labels": list(each.named),
        "sites": {site: _figures(figures) for site, figures in each.sites.items()},
        "scratch": _baseline(each.scratch),
        "naive": _baseline(each.naive),
    }


def _baseline(baseline: Baseline | None) -> Mapping[str, object] | None:
    if baseline is None:
        return None
    sites = {site: _figures(figures) for site, figures in baseline.sites.items()}
    return {**_figures(baseline.test), "voxels": baseline.voxels, "seconds": baseline.seconds, "sites": sites}


def _figures(figures: Figures) -> dict[str, object]:
    table: dict[str, object] = {
        name: getattr(figures, name) for name in ("dice", "surface_dice", "apl_mm", "relative_apl")
    }
    if figures.cases:
        table["cases"] = {name: _figures(case) for name, case in figures.cases.items()}
    return table


def _loss(before: Figures | None, after: Figures | None) -> float | None:
    return before.dice - after.dice if before is not None and after is not None else None
