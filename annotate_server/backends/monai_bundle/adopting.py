"""Making an app out of a bundle: its configuration understood, its network built, its weights fitted and tried."""

from pathlib import Path

import torch

from annotate_server.backends.monai_bundle.answer import Activation, answer_from
from annotate_server.backends.monai_bundle.config import Config, metadata_of
from annotate_server.backends.monai_bundle.description import Description, app_name
from annotate_server.backends.monai_bundle.files import INFERENCE, BundleFiles, opened
from annotate_server.backends.monai_bundle.network import BundleNetwork, name_from, plan_from, with_steady_randomness
from annotate_server.backends.monai_bundle.parameters import BundleParameters
from annotate_server.backends.monai_bundle.preprocessing import steps_from, transforms_in
from annotate_server.backends.monai_bundle.weights import WEIGHTS, checkpoint_of, fill, state_in
from annotate_server.backends.monai_bundle.window import window_from
from annotate_server.backends.training.weights import save
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import InvalidApp, about
from annotate_server.domain.labelmap import CodedConcept, Segment
from annotate_server.domain.ports import Control

_LARGEST_TRIAL = 200**3


def adopted(order: AdoptionOrder, scratch: Path, control: Control) -> AdoptedApp:
    """Return the app of a bundle; its weights are written into `scratch` as safetensors.

    Raises InvalidApp and WeightsInvalid with what is not understood or does not fit. No code of a bundle is run,
    whoever trusts it.
    """
    files = opened(order.source, scratch)
    with about(files.label):
        control.report(0.1, "reading the configuration")
        config = Config.of(files, files.inference or INFERENCE[0])
        parameters = parameters_from(config)
        description = Description(metadata_of(files), files.label)
        segments = description.segments(parameters.network.outputs, parameters.answer)
        modalities = description.modalities(order.modalities)
        control.check()
        control.report(0.3, "reading the weights")
        wanted, key = _checkpoint_named(config)
        state = state_in(checkpoint_of(files, wanted), files.label, key)
        network = fill(with_steady_randomness(parameters.network, seed=0), state, files.label)
        control.check()
        control.report(0.6, "trying the network")
        _try(network, parameters)
        weights = save(network.state(), scratch / WEIGHTS)
        table = {
            **description.card(files),
            "backend": "monai_bundle",
            "modalities": [str(modality) for modality in modalities],
            "drafts": True,
            "trainable": learns(parameters),
            "segments": [_table(segment) for segment in segments],
            "parameters": parameters.table(),
        }
    return AdoptedApp(order.name or _own_name(files), table, {WEIGHTS: weights})


def parameters_from(config: Config) -> BundleParameters:
    """Return what a bundle's configuration says about its network, as plain data; raises InvalidApp."""
    network = "network_def" if config.has("network_def") else "network"
    if config.has(f"{network}::_target_"):
        # Before its arguments, which for a network of another kind are often not understood either.
        name_from({"_target_": config.get(f"{network}::_target_")}, network)
    return BundleParameters(
        network=plan_from(config.get(network), network),
        steps=steps_from(transforms_in(config.get("preprocessing"), "preprocessing"), "preprocessing"),
        window=window_from(config.get("inferer"), "inferer"),
        answer=answer_from(transforms_in(config.get("postprocessing"), "postprocessing"), "postprocessing"),
        reduced_on_card=config.has("evaluator::amp") and config.get("evaluator::amp") is True,
    )


def learns(parameters: BundleParameters) -> bool:
    """Say whether our training can go on with the network: its classes exclude each other."""
    return parameters.answer.threshold is None and parameters.answer.activation is not Activation.SIGMOID


def _checkpoint_named(config: Config) -> tuple[str | None, str]:
    """Return the name of the file of weights, None where none is named, and under which key they may lie in it."""
    for place in ("checkpointloader", *config.names("handlers")):
        if config.has(f"{place}::_target_") and str(config.get(f"{place}::_target_")).endswith("CheckpointLoader"):
            path = config.get(f"{place}::load_path")
            if not isinstance(path, str):
                raise InvalidApp(f"'{place}::load_path' is no text")
            keys = [name.rpartition("::")[2] for name in config.names(f"{place}::load_dict")]
            return path, keys[0] if len(keys) == 1 else "model"
    return None, "model"


def _try(network: BundleNetwork, parameters: BundleParameters) -> None:
    """Run the network once on an empty window; InvalidApp where its answer is not one score a class and voxel."""
    size = parameters.window.size
    if size is None or min(size) < 1:
        return
    a, b, c = size
    if a * b * c > _LARGEST_TRIAL:
        raise InvalidApp(f"its window of {size} voxels is larger than any machine here takes")
    try:
        with torch.inference_mode():
            answer = network.eval()(torch.zeros((1, 1, a, b, c)))
    except (RuntimeError, ValueError, IndexError) as error:
        raise InvalidApp(f"the network does not take windows of {size} voxels: {error}") from error
    expected = (1, parameters.network.outputs, a, b, c)
    if tuple(answer.shape) != expected:
        raise InvalidApp(f"the network answers {tuple(answer.shape)} to a window, and {expected} is expected")


def _own_name(files: BundleFiles) -> str:
    return app_name(Path(files.label).stem if files.label.endswith(".zip") else files.label)


def _table(segment: Segment) -> dict[str, object]:
    table: dict[str, object] = {"index": segment.index, "name": segment.name, "colour": list(segment.colour)}
    if segment.kind is not None:
        table["kind"] = _concept(segment.kind)
    if segment.laterality is not None:
        table["laterality"] = _concept(segment.laterality)
    return table


def _concept(concept: CodedConcept) -> list[str]:
    return [concept.value, concept.scheme, concept.meaning]
