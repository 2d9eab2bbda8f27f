"""What training sets, parts and strategies promise, for whatever labels and patients there are."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate_server.domain.geometry import Geometry
from annotate_server.domain.labelmap import CodedConcept, Labelmap, Segment
from annotate_server.domain.strategy import Chance, OpenCase
from annotate_server.domain.training import IGNORED, Part, TrainingEntry, TrainingSet
from annotate_server.domain.volume import Volume
from annotate_server.testing.memory_learning import InMemoryParts
from annotate_server.workflows.parts import FIRST_PATIENTS, Parts
from annotate_server.workflows.strategies import BUILT_IN
from annotate_server.workflows.training_examples import example
from annotate_server.workflows.training_set_json import read_training_set

GRID = Geometry((4, 3, 5), (3.0, 1.0, 0.7), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)), (0.0, 0.0, 0.0))
words = st.text(min_size=1, max_size=12).filter(str.strip)
names = st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=5, unique=True)
concepts = st.none() | st.builds(CodedConcept, words, words, words)


@st.composite
def segment_lists(draw: st.DrawFn) -> tuple[Segment, ...]:
    found = draw(names)
    indices = draw(st.permutations(range(1, 20)))
    return tuple(
        Segment(index, name, draw(st.tuples(*[st.integers(0, 255)] * 3)), draw(concepts), laterality=draw(concepts))
        for index, name in zip(indices, found, strict=False)
    )


@st.composite
def training_sets(draw: st.DrawFn) -> TrainingSet:
    segments = draw(segment_lists())
    entries = st.builds(
        TrainingEntry,
        words,
        words,
        words,
        st.sampled_from(Part),
        st.just(segments),
        words,
        st.booleans(),
        st.booleans(),
    )
    return TrainingSet(draw(words), segments, tuple(draw(st.lists(entries, max_size=5))))


@settings(deadline=None, max_examples=60)
@given(training_sets())
def test_a_set_comes_back_equal_and_its_digest_is_that_of_its_bytes(training_set: TrainingSet) -> None:
    content = training_set.content
    assert read_training_set(content) == training_set
    assert hashlib.sha256(content).hexdigest() == training_set.digest


@settings(deadline=None, max_examples=60)
@given(segment_lists(), segment_lists(), st.integers(0, 2**32), st.booleans())
def test_a_target_holds_the_sets_indices_the_known_ones_and_nothing_else(
    ours: tuple[Segment, ...], theirs: tuple[Segment, ...], seed: int, is_partial: bool
) -> None:
    values = np.array([0, 0, *(segment.index for segment in theirs)], np.uint8)
    random = np.random.default_rng(seed)
    voxels = random.choice(values, GRID.shape) * random.integers(0, 2, (GRID.shape[0], 1, 1), np.uint8)
    entry = TrainingEntry("c", "l", "p", Part.TRAIN, theirs, is_partial=is_partial)
    training_set = TrainingSet("p", ours, (entry,))
    made = example(entry, training_set, Volume(np.zeros(GRID.shape, np.int16), GRID), (Labelmap(voxels, GRID, theirs),))
    present = {int(value) for value in np.unique(made.target)} - {0, IGNORED}
    assert present <= made.known <= {segment.index for segment in ours}
    empty = ~voxels.any(axis=(1, 2))
    assert (made.target[empty] == (IGNORED if is_partial else 0)).all()
    assert not (made.target[~empty] == IGNORED).any()


@settings(deadline=None, max_examples=30)
@given(st.permutations([f"patient {number}" for number in range(30)]), st.integers(1, 29))
def test_a_part_depends_on_the_patient_and_not_on_who_came_before(order: list[str], cut: int) -> None:
    first = [f"first {number}" for number in range(FIRST_PATIENTS)]
    parts = Parts(InMemoryParts())
    parts.drawn("project", [*first, *order[:cut]])
    mixed = parts.drawn("project", [*first, *order])
    straight = Parts(InMemoryParts()).drawn("project", [*first, *sorted(order)])
    assert dict(mixed) == dict(straight)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.builds(
            OpenCase,
            st.text("abcdef0123456789", min_size=1, max_size=4),
            st.booleans(),
            st.frozensets(st.sampled_from(["Liver", "Spleen", "Lesion"])),
            st.none() | st.floats(0, 1),
        ),
        max_size=25,
        unique_by=lambda case: case.id,
    ),
    st.integers(0, 500),
)
def test_every_strategy_gives_every_case_exactly_once(cases: list[OpenCase], labelled: int) -> None:
    for strategy in BUILT_IN.values():
        ordered = strategy.order(cases, Chance("project", labelled=labelled))
        assert sorted(case.id for case in ordered) == sorted(case.id for case in cases)
