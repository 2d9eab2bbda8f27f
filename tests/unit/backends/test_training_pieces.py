"""The pieces of the training: loss, drawing, augmentation."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from training_phantoms import BALL, BOX

from annotate_server.backends.training.augment import Augmentation, Chance, augmented_example
from annotate_server.backends.training.cases import GridCase, ShelvedCase, Voxels, relabelled, shelve
from annotate_server.backends.training.drawing import Drawing, Drawn
from annotate_server.backends.training.loss import deep_supervision_loss, dice_and_cross_entropy, merged_into_background
from annotate_server.domain.training import IGNORED, Part, TrainingEntry

STILL = Augmentation(shift=0.0, spatial_chance=0.0, intensity_chance=0.0)
CPU = torch.device("cpu")


def entry(name: str, site: str = "", *, is_new: bool = False) -> TrainingEntry:
    return TrainingEntry(name, name, name, Part.TRAIN, (BALL, BOX), site, is_new)


def shelf(folder: Path, name: str, target: np.ndarray, site: str = "", *, is_new: bool = False) -> ShelvedCase:
    values = np.random.default_rng(len(name)).normal(size=(1, *target.shape)).astype(np.float32)
    return shelve(
        entry(name, site, is_new=is_new), GridCase(values, target.astype(np.int16), frozenset({1, 2})), folder
    )


def labelled(shape: tuple[int, int, int] = (7, 9, 11), label: int = 1) -> np.ndarray:
    target = np.zeros(shape, np.int16)
    target[2:4, 3:6, 5:9] = label
    return target


def test_the_loss_of_unknown_classes_is_that_of_a_network_which_never_had_them() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, 5, generator=random)
    target = torch.randint(0, 2, (2, 3, 4, 5), generator=random)
    known = torch.tensor([[True, True, False, False]] * 2)
    merged = torch.cat([logits[:, [0, 2, 3]].logsumexp(1, keepdim=True), logits[:, 1:2]], dim=1)
    ours = deep_supervision_loss([logits], target, known)
    plain = deep_supervision_loss([merged], target, torch.ones(2, 2, dtype=torch.bool))
    assert torch.allclose(ours, plain, atol=1e-5)


def test_an_unknown_class_may_be_anywhere_in_the_background() -> None:
    logits = torch.full((1, 3, 2, 2, 2), -9.0)
    target = torch.zeros((1, 2, 2, 2), dtype=torch.int64)
    known = torch.tensor([[True, True, False]])
    as_background, as_unknown = logits.clone(), logits.clone()
    as_background[:, 0], as_unknown[:, 2] = 9.0, 9.0
    losses = [deep_supervision_loss([each], target, known) for each in (as_background, as_unknown)]
    assert torch.allclose(losses[0], losses[1])
    assert float(deep_supervision_loss([as_unknown], target, torch.ones_like(known))) > 10


def test_ignored_voxels_have_no_gradient_at_any_resolution() -> None:
    random = torch.Generator().manual_seed(0)
    fine = torch.randn(1, 3, 4, 4, 4, generator=random, requires_grad=True)
    coarse = torch.randn(1, 3, 2, 2, 2, generator=random, requires_grad=True)
    target = torch.randint(0, 3, (1, 4, 4, 4), generator=random)
    target[:, :2] = IGNORED
    deep_supervision_loss([fine, coarse], target, torch.ones(1, 3, dtype=torch.bool)).backward()
    assert fine.grad is not None
    assert coarse.grad is not None
    assert torch.equal(fine.grad[:, :, :2], torch.zeros(1, 3, 2, 4, 4))
    assert torch.equal(coarse.grad[:, :, 0], torch.zeros(1, 3, 2, 2))
    assert float(fine.grad[:, :, 2:].abs().min()) > 0


def test_a_label_that_says_nothing_costs_nothing_but_the_dice() -> None:
    logits = torch.randn(1, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.full((1, 2, 2, 2), IGNORED)
    deep_supervision_loss([logits], target, torch.ones(1, 3, dtype=torch.bool)).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_merging_gives_the_background_all_unknown_probability() -> None:
    logits = torch.randn(1, 4, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[True, False, True, False]])
    before, after = logits.softmax(1)[0, :, 0, 0, 0], merged_into_background(logits, known).softmax(1)[0, :, 0, 0, 0]
    assert torch.allclose(
        after, torch.stack([before[0] + before[1] + before[3], before[2] * 0, before[2], before[2] * 0])
    )
    assert after[1] == 0


def test_the_dice_of_a_class_comes_from_the_examples_that_know_it() -> None:
    shares = torch.zeros(2, 2, 2, 2, 2)
    shares[0, 1], shares[1, 0] = 1.0, 1.0
    logits = 30 * (shares - 0.5)
    logits[1] = torch.tensor([-15.0, 15.0])[:, None, None, None]
    known = torch.tensor([[True, True], [True, False]])
    assert float(dice_and_cross_entropy(logits, shares, known)) < 1e-3


def test_half_of_the_draws_are_new_whatever_the_numbers(tmp_path: Path) -> None:
    cases = [shelf(tmp_path, f"old{n}", labelled()) for n in range(9)]
    cases.append(shelf(tmp_path, "new", labelled(), is_new=True))
    drawing = Drawing(cases, 0.5, (4, 4, 4))
    drawn = [drawing.draw(n, torch.Generator().manual_seed(n)).case.entry for n in range(40)]
    assert sum(each.is_new for each in drawn) == 20
    assert sum(each.is_new for each in drawn[:2]) == 1


def test_a_small_site_and_a_rare_segment_are_seen_more_often_than_their_share(tmp_path: Path) -> None:
    cases = [shelf(tmp_path, f"a{n}", labelled(), "a") for n in range(16)]
    cases.append(shelf(tmp_path, "b", labelled(), "b"))
    drawing = Drawing(cases, 0.0, (4, 4, 4))
    sites = Counter(drawing.draw(n, torch.Generator().manual_seed(n)).case.entry.site for n in range(300))
    assert 0.12 < sites["b"] / 300 < 0.28
    rare = [shelf(tmp_path, f"c{n}", labelled(), "c") for n in range(15)]
    rare.append(shelf(tmp_path, "rare", labelled(label=2), "c"))
    drawing = Drawing(rare, 0.0, (4, 4, 4))
    names = Counter(drawing.draw(n, torch.Generator().manual_seed(n)).case.entry.case_id for n in range(300))
    assert 0.4 < names["rare"] / 300 < 0.6


def test_patches_lie_in_the_case_and_half_of_them_on_the_segment(tmp_path: Path) -> None:
    case = shelf(tmp_path, "large", labelled((40, 40, 40)))
    drawing = Drawing([case], 0.0, (5, 5, 5))
    inside = 0
    for number in range(200):
        centre = drawing.draw(number, torch.Generator().manual_seed(number)).centre
        assert all(2 <= c <= 37 and c == int(c) for c in centre)
        inside += bool(case.target[tuple(int(c) for c in centre)])
    assert 70 < inside < 130


@pytest.mark.parametrize("patch", [(4, 4, 4), (7, 9, 11), (8, 12, 16)])
def test_without_augmentation_a_patch_is_what_the_case_holds(tmp_path: Path, patch: tuple[int, int, int]) -> None:
    case = shelf(tmp_path, "case", labelled())
    drawn = Drawing([case], 0.0, patch).draw(3, torch.Generator().manual_seed(3))
    values, target = augmented_example(drawn, patch, STILL, Voxels(CPU), Chance.of_example(0, 0, CPU))
    padded = np.zeros([side + 2 * p for side, p in zip(case.shape, patch, strict=True)], np.float32)
    labels = np.zeros(padded.shape, np.int64)
    whole = tuple(slice(p, p + side) for side, p in zip(case.shape, patch, strict=True))
    padded[whole], labels[whole] = case.values[0], case.target
    start = [round(c - (p - 1) / 2) + p for c, p in zip(drawn.centre, patch, strict=True)]
    cut = tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))
    assert np.allclose(values[0].numpy(), padded[cut], atol=2e-3)
    assert np.array_equal(target.numpy(), labels[cut])


def test_labels_move_with_the_voxels(tmp_path: Path) -> None:
    target = labelled((20, 22, 24))
    values = target[None].astype(np.float32)
    case = shelve(entry("e"), GridCase(values, target, frozenset({1, 2})), tmp_path)
    strong = Augmentation(
        shift=3.0, spatial_chance=1.0, elastic_chance=1.0, intensity_chance=0.0, mirror_axes=(0, 1, 2)
    )
    drawn = Drawn(case, (9.5, 10.5, 11.5))
    agreements, moved = [], 0
    for number in range(10):
        chance = Chance.of_example(0, number, CPU)
        volume, labels = augmented_example(drawn, (20, 22, 24), strong, Voxels(CPU), chance)
        agreements.append(float(((volume[0] > 0.5) == (labels == 1)).float().mean()))
        moved += not np.array_equal(labels.numpy(), target)
    assert min(agreements) > 0.999
    assert moved == 10


def test_many_labels_move_as_few_do(tmp_path: Path) -> None:
    target = np.arange(12, dtype=np.int16).repeat(8).reshape(12, 2, 4)
    case = shelve(entry("many"), GridCase(target[None].astype(np.float32), target, frozenset(range(1, 12))), tmp_path)
    _, labels = augmented_example(
        Drawn(case, (5.5, 0.5, 1.5)), (14, 4, 4), STILL, Voxels(CPU), Chance.of_example(0, 0, CPU)
    )
    assert np.array_equal(labels[1:13, 1:3].numpy(), target)
    assert not labels[0].any()
    assert not labels[13].any()


def test_an_example_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    case = shelf(tmp_path, "case", labelled())
    drawn = Drawn(case, (3.0, 4.0, 5.0))
    first, again = (
        augmented_example(drawn, (8, 8, 8), Augmentation(), Voxels(CPU), Chance.of_example(5, 77, CPU))[0]
        for _ in range(2)
    )
    assert torch.equal(first, again)


def test_indices_become_classes_and_strangers_are_ignored() -> None:
    target = np.array([[[0, 5, 7, IGNORED, 9]]], dtype=np.int16)
    assert relabelled(target, {5: 1, 9: 2}).tolist() == [[[0, 1, IGNORED, IGNORED, 2]]]
