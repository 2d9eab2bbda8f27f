"""The strategies that come with the server. What each is known to help, and what not, is said in `docs/worklist.md`."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from annotate_server.domain.strategy import Chance, OpenCase, Strategy

FOREGROUND_SHARE = 2 / 3
"""The share of draws that go to cases that hold a segment, as in one of nnActive's foreground-aware baselines."""
FIRST_POWER, DOUBLED_EVERY = 1.0, 20
"""How sharply ClaSP PE prefers what is unsure at first, and after how many labelled cases it does so twice as much."""
MOST_POWER = 64.0


@dataclass(frozen=True)
class Random:
    """Any case."""

    name: str = "random"

    def order(self, cases: Sequence[OpenCase], chance: Chance) -> Sequence[OpenCase]:
        """Return the cases in an order that depends on nothing but their names and the seed."""
        return sorted(cases, key=lambda case: chance.number(case.id))


@dataclass(frozen=True)
class ForegroundRandom:
    """Two draws of three go to a case in which a draft holds a segment that was drawn before, one to any case.

    So a rare structure is labelled earlier, while every case keeps a chance: where drafts miss a structure, only those
    others find it. Where every draft holds everything, this is the same as `Random`.
    """

    name: str = "foreground"

    def order(self, cases: Sequence[OpenCase], chance: Chance) -> Sequence[OpenCase]:
        """Return the cases in the order of a weighted draw without putting back (Efraimidis and Spirakis 2006)."""
        counts = Counter(name for case in cases for name in case.held)
        return sorted(cases, key=lambda case: -math.log(chance.number(case.id)) / _weight(case, counts, len(cases)))


@dataclass(frozen=True)
class Difficulty:
    """What a model was least sure of comes first; what no model said anything about comes after it, in any order."""

    name: str = "difficulty"

    def order(self, cases: Sequence[OpenCase], chance: Chance) -> Sequence[OpenCase]:
        """Return the cases by falling difficulty."""
        return sorted(cases, key=lambda case: (-_known(case), chance.number(case.id)))


@dataclass(frozen=True)
class ClaspPe:
    """ClaSP PE (Lüth, Traub et al. 2026, arXiv 2601.13677) on whole cases instead of patches.

    Two places of three are given to the segments in turn, to the case of each that comes first; the third to the case
    that comes first of all. What comes first is the difficulty to a power times noise: the power grows with the cases
    that are labelled, so that the order is nearly random at first and by difficulty in the end. The authors' power and
    its growth are tuned for patches; ours are not theirs.
    """

    name: str = "clasp-pe"

    def order(self, cases: Sequence[OpenCase], chance: Chance) -> Sequence[OpenCase]:
        """Return the cases in the order in which they would be asked for."""
        power = min(MOST_POWER, FIRST_POWER * 2.0 ** (chance.labelled / DOUBLED_EVERY))
        ranked = sorted(cases, key=lambda case: -_noisy(case, power, chance))
        queues = {name: [case for case in ranked if name in case.held] for name in _names(cases)}
        return list(_stratified(ranked, queues))


BUILT_IN: Mapping[str, Strategy] = {each.name: each for each in (ForegroundRandom(), Random(), Difficulty(), ClaspPe())}


def _weight(case: OpenCase, counts: Mapping[str, int], number: int) -> float:
    """Return the chance that a case is drawn first."""
    anywhere = (1 - FOREGROUND_SHARE if counts else 1.0) / number
    return anywhere + sum(FOREGROUND_SHARE / (len(counts) * counts[name]) for name in case.held)


def _known(case: OpenCase) -> float:
    return -1.0 if case.difficulty is None else case.difficulty


def _noisy(case: OpenCase, power: float, chance: Chance) -> float:
    """Return the logarithm of the difficulty with Gumbel noise: the larger the power, the less the noise decides."""
    noise = -math.log(-math.log(chance.number(case.id)))
    return math.log(max(_known(case), 1e-3)) + noise / power


def _names(cases: Sequence[OpenCase]) -> list[str]:
    return sorted({name for case in cases for name in case.held})


def _stratified(ranked: Sequence[OpenCase], queues: Mapping[str, list[OpenCase]]) -> Iterator[OpenCase]:
    """Yield every case once: two for the segments in turn, then one from all."""
    given: set[str] = set()
    names, turn = list(queues), 0
    readers = {name: iter(queue) for name, queue in queues.items()}
    everything = iter(ranked)
    while len(given) < len(ranked):
        from_all = not names or turn % 3 == 2
        name = "" if from_all else names[(turn - turn // 3) % len(names)]
        source = everything if from_all else readers[name]
        turn += 1
        case = next((each for each in source if each.id not in given), None)
        if case is not None:
            given.add(case.id)
            yield case
