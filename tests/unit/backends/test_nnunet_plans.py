"""What is read of nnU-Net's plans, and what is refused with a sentence."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from nnunet_files import CASES, dataset_words, numbered, plans_words

from annotate_server.backends.nnunet.facts import Fact
from annotate_server.backends.nnunet.labels import outputs_of
from annotate_server.backends.nnunet.plans import Plan, Scheme, kept_of, plan_of
from annotate_server.domain.errors import InvalidApp

CASE = CASES["plain_ct_thick_slices"]
Change = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]


def read(change: Change | None = None) -> Plan:
    """Return the plan of a case after a change to its plans, its configuration and its dataset."""
    plans: dict[str, Any] = copy.deepcopy(plans_words(CASE))
    dataset: dict[str, Any] = copy.deepcopy(dataset_words(CASE))
    if change is not None:
        change(plans, plans["configurations"][CASE.configuration], dataset)
    return plan_of(Fact(plans, "plans.json"), Fact(dataset, "dataset.json"), CASE.configuration)


def outputs(labels: dict[str, object], **rest: object) -> Any:
    return outputs_of(Fact({"labels": labels, **rest}, "dataset.json"))


def test_a_configuration_has_what_it_inherits() -> None:
    plan = read()
    assert plan.intensities.order == 3
    assert plan.logits.order == 1
    assert plan.normalisation.scheme is Scheme.CT
    assert (plan.normalisation.low, plan.normalisation.high) == (-310.0, 420.0)
    assert plan.network.features == (6, 8, 10)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p, c, d: c.update(previous_stage="3d_lowres"), "second stage of a cascade"),
        (lambda p, c, d: c.update(preprocessor_name="MyPreprocessor"), "'MyPreprocessor' cannot be run here"),
        (lambda p, c, d: p.update(label_manager="MyLabels"), "'MyLabels' cannot be run here"),
        (lambda p, c, d: c.update(normalization_schemes=["os.system"]), "'os.system' cannot be run here"),
        (lambda p, c, d: c.update(resampling_fn_data="mine"), "'mine' cannot be run here"),
        (lambda p, c, d: c.update(inherits_from=CASE.configuration), "inherits from itself"),
        (lambda p, c, d: c.update(inherits_from="nowhere"), "'nowhere'"),
        (lambda p, c, d: c.update(spacing=[1.0, 0.0, 1.0]), "is no spacing"),
        (lambda p, c, d: c.update(spacing=[1.0, float("nan"), 1.0]), "finite number"),
        (lambda p, c, d: c.update(patch_size=[4096, 4096, 4096]), "patch"),
        (lambda p, c, d: p.update(transpose_forward=[0, 0, 1]), "no order of three axes"),
        (lambda p, c, d: d.update(channel_names={"0": "T1", "1": "T2"}), "2 volumes of one patient together (T1, T2)"),
        (lambda p, c, d: d.pop("labels"), "'labels'"),
        (
            lambda p, c, d: c["architecture"].update(network_class_name="subprocess.Popen"),
            "'subprocess.Popen' cannot be run here",
        ),
        (
            lambda p, c, d: c["architecture"]["arch_kwargs"].update(norm_op="os.remove"),
            "'os.remove' cannot be run here",
        ),
        (lambda p, c, d: c["architecture"]["arch_kwargs"].update(conv_op="torch.nn.Conv2d"), "do not fit a patch"),
        (lambda p, c, d: c["architecture"]["arch_kwargs"].update(n_stages=10**9), "not between 2 and 16"),
        (lambda p, c, d: c["architecture"]["arch_kwargs"].update(squeeze_excitation=True), "squeeze_excitation"),
        (lambda p, c, d: c["architecture"]["arch_kwargs"].update(strides=[[1, 1, 1]]), "1 entries where 3 are needed"),
    ],
)
def test_what_cannot_be_run_is_named(change: Change, sentence: str) -> None:
    with pytest.raises(InvalidApp) as refused:
        read(change)
    assert sentence in str(refused.value)


def test_settings_that_are_null_are_the_usual_ones() -> None:
    plan = read(lambda p, c, d: c["architecture"]["arch_kwargs"].update(norm_op_kwargs=None, nonlin_kwargs=None))
    assert plan.network.norm is not None
    assert not plan.network.norm.is_affine
    assert plan.network.activation is not None
    assert plan.network.activation.slope == 0.01


def test_what_is_kept_says_the_same_and_names_no_training_case() -> None:
    plans = plans_words(CASE)
    dataset = {**dataset_words(CASE), "dataset": {"patient_7": {"images": ["patient_7.nii.gz"]}}}
    kept = kept_of(Fact(plans, "plans"), Fact(dataset, "dataset"), CASE.configuration)
    again = Fact(kept, "plan.json")
    assert plan_of(again.at("plans"), again.at("dataset"), CASE.configuration) == read()
    assert "patient_7" not in str(kept)


def test_regions_are_named_by_what_is_left_to_see_of_them() -> None:
    found = outputs(
        {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3], "ignore": 4},
        regions_class_order=[1, 2, 3],
    )
    assert found.painted == (1, 2, 3)
    assert found.names == {1: "whole tumour without core", 2: "core without enhancing", 3: "enhancing"}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"background": 1, "liver": 0}, "background is not label 0"),
        ({"background": 0, "liver": 1, "spleen": 3}, "not the numbers from 0 on"),
        ({"background": 0, "liver": 1, "spleen": 1}, "not the numbers from 0 on"),
        ({"background": 0, "liver": "one"}, "is no label"),
        ({"background": 0, "liver": [1, 2], "spleen": [2]}, "'regions_class_order'"),
        (numbered(2000), "more than can be told apart"),
    ],
)
def test_labels_that_nnunet_could_not_have_trained_are_refused(labels: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidApp) as refused:
        outputs(labels)
    assert sentence in str(refused.value)


def test_an_ignored_label_is_no_output() -> None:
    found = outputs({"background": 0, "liver": 1, "ignore": 2})
    assert found.count == 2
    assert found.names == {1: "liver"}
