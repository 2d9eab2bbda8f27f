"""An app out of a results folder: card, plan and weights."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from annotate_server.backends.anatomy import segments_named
from annotate_server.backends.nnunet.checkpoints import Trained, converted, read_checkpoint
from annotate_server.backends.nnunet.facts import read_facts
from annotate_server.backends.nnunet.parameters import PLAN, NnunetParameters
from annotate_server.backends.nnunet.plans import Plan, kept_of, plan_of
from annotate_server.backends.nnunet.results import DATASET, PLANS, Results, results_of
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.app_table import segment_table
from annotate_server.domain.errors import InvalidApp, WeightsInvalid
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality

_MODALITIES = (
    (Modality.CT, r"ct|cta|cbct|hu"),
    (Modality.PT, r"pet|pt|suv"),
    (Modality.MR, r"mri?|mra|t1\w*|t2\w*|flair|dwi|adc|swi|pd|stir|dixon|bold"),
)
"""Words in the names of channels, and what they mean."""
_REORIENTING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
_RAS = "SAR"
"""How axes (k, j, i) run in a file whose axes (i, j, k) run to right, anterior and superior."""


def adopted(order: AdoptionOrder, scratch: Path, control: Control) -> AdoptedApp:
    """Return the app of a results folder; weights are written into `scratch`. Raises InvalidApp or WeightsInvalid."""
    results = results_of(order.source)
    plans, dataset = read_facts(results.folder / PLANS), read_facts(results.folder / DATASET)
    first = read_checkpoint(results.folds[0][1], results.folds[0][0])
    plan = plan_of(plans, dataset, first.configuration)
    modalities = order.modalities or _modalities(plan.channel)
    files = _weights(results, plan, scratch, control)
    kept = scratch / PLAN
    kept.write_text(json.dumps(kept_of(plans, dataset, plan.configuration), indent=1))
    parameters = NnunetParameters(
        configuration=plan.configuration,
        trainer=first.trainer,
        folds=tuple(files),
        orientation=_orientation(plan),
        mirror_axes=_mirror_axes(first, plan),
    )
    table = {**_card(plan, parameters, modalities), "parameters": parameters.table()}
    return AdoptedApp(order.name or _name(plan), table, {PLAN: kept, **files})


def _weights(results: Results, plan: Plan, scratch: Path, control: Control) -> Mapping[str, Path]:
    """Return the weights of every fold as files, by the names that they get."""
    files = {}
    for number, (fold, path) in enumerate(results.folds):
        control.check()
        control.report(number / len(results.folds), f"converting {fold}")
        trained = read_checkpoint(path, fold)
        if trained.configuration != plan.configuration:
            raise WeightsInvalid(f"it is one of {trained.configuration}, not of {plan.configuration}", source=fold)
        files[f"{fold}.safetensors"] = scratch / f"{fold}.safetensors"
        converted(trained, plan, files[f"{fold}.safetensors"], fold)
    return files


def _mirror_axes(trained: Trained, plan: Plan) -> tuple[int, ...]:
    """Return the axes of the network's array that its predictions are mirrored along; slices have two of them."""
    first = 3 - len(plan.patch)
    if any(not 0 <= axis < len(plan.patch) for axis in trained.mirror_axes):
        raise WeightsInvalid(f"it is mirrored along the axes {trained.mirror_axes}, which it has not")
    return tuple(axis + first for axis in trained.mirror_axes)


def _orientation(plan: Plan) -> str:
    """Return the orientation of the training volumes where it is known, empty for as they were stored.

    TotalSegmentator turns every volume before it hands it to nnU-Net, so that its plans do not tell.
    """
    is_turned = plan.reader in _REORIENTING_READERS or "totalsegmentator" in plan.dataset.casefold()
    return _RAS if is_turned else ""


def _modalities(channel: str) -> tuple[Modality, ...]:
    words = re.split(r"[^a-z0-9]+", channel.casefold())
    for modality, pattern in _MODALITIES:
        if any(re.fullmatch(pattern, word) for word in words):
            return (modality,)
    raise InvalidApp(
        f"its channel {channel!r} names no modality", source=DATASET, remedy="Say which it is made for: --modality MR."
    )


def _card(plan: Plan, parameters: NnunetParameters, modalities: Sequence[Modality]) -> dict[str, object]:
    segments = segments_named(plan.outputs.names)
    names = [segment.name for segment in segments]
    folds = "1 fold" if len(parameters.folds) == 1 else f"{len(parameters.folds)} folds"
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return {
        "title": f"{_readable(_plain(plan.dataset))} ({plan.configuration})",
        "purpose": f"Drafts {shown} in {' or '.join(modalities)}, by a network trained with nnU-Net v2.",
        "not_for": "Volumes unlike those that it was trained on, which this description does not name; diagnosis. "
        "A physician corrects every draft.",
        "backend": "nnunet",
        "modalities": [str(modality) for modality in modalities],
        "licence": "As stated by its maker",
        "attribution": f"{plan.dataset}, {parameters.trainer}, {plan.configuration}, {folds}. nnU-Net: Isensee et al., "
        "Nature Methods 18, 203-211 (2021).",
        "trainable": False,
        "segments": [segment_table(segment) for segment in segments],
    }


def _name(plan: Plan) -> str:
    """Return what the model is called where nobody says: its dataset and configuration, as far as 64 letters go."""
    words = re.sub(r"[^a-z0-9]+", "_", f"{_plain(plan.dataset)}_{plan.configuration}".lower()).strip("_")
    return (words if words[:1].isalpha() else f"nnunet_{words}")[:64]


def _plain(dataset: str) -> str:
    """Return a dataset's name without its number."""
    return re.sub(r"^Dataset\d+_", "", dataset) or dataset


def _readable(name: str) -> str:
    words = " ".join(name.replace("_", " ").split()) or "Unnamed"
    return words[0].upper() + words[1:]
