"""A release of nnInteractive as an app: a folder of plans, descriptions and one fold's checkpoint."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from annotate_server.backends.environments.guest import Environment, Guest
from annotate_server.backends.nninteractive.parameters import CHECKPOINT, DESCRIPTIONS
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import PromptKind
from annotate_server.domain.volume import Modality

Table = Mapping[str, object]
_CONVERTING = "annotate_server.backends.nninteractive.converting"
_PLANS, _DATASET, _LICENCE = "plans.json", "dataset.json", "LICENSE"
_LARGEST_TEXT_BYTES = 64 << 20
"""The list of labels of a network that was trained on a hundred data sets takes megabytes."""
_KINDS = {
    "points": PromptKind.POINT,
    "bbox2d": PromptKind.BOX,
    "bbox3d": PromptKind.BOX,
    "scribble": PromptKind.SCRIBBLE,
    "lasso": PromptKind.LASSO,
}
_OFFICIAL = ("Dataset225_nnInteractiveV2", "3d_fullres_ps192_bs24")
_OFFICIAL_LICENCE = "CC BY-NC-SA 4.0"
"""nnInteractive's readme: the first release came without a LICENSE file; later ones have one."""
_NETWORKS = ("dynamic_network_architectures.", "torch.nn.")
"""Where the classes may come from that plans name: nnU-Net makes whatever class stands there."""


def is_release(source: Path) -> bool:
    """Say whether a folder has the layout of a release; only names are looked at."""
    try:
        return (
            (source / _PLANS).is_file()
            and (source / _DATASET).is_file()
            and any((source / name).is_file() for name in DESCRIPTIONS)
            and len(_checkpoints(source)) == 1
        )
    except OSError:
        return False


def adopted_apps(order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
    """Return the app of a release.

    The checkpoint, which nnInteractive would load as a program, is read as plain data in its own environment and
    written anew. Raises InvalidApp, WeightsInvalid, BackendUnavailable where the environment is not there.
    """
    source = order.source
    description = next(name for name in DESCRIPTIONS if (source / name).is_file())
    _check_networks(_read(source / _PLANS))
    guest = Guest.start(Environment.named("nninteractive"), _CONVERTING, {})
    try:
        words = {"source": str(_checkpoints(source)[0].resolve()), "target": str((scratch / CHECKPOINT).resolve())}
        configuration = str(guest.call("convert", words, {}, control).words["configuration"])
    finally:
        guest.close()
    files = {name: source / name for name in (_PLANS, _DATASET, description)}
    if (source / _LICENCE).is_file():
        files[_LICENCE] = source / _LICENCE
    table = _table(order, _capability(source / description), _licence(source, configuration))
    return (AdoptedApp(order.name or _name(source), table, {**files, CHECKPOINT: scratch / CHECKPOINT}),)


def _table(order: AdoptionOrder, capability: Table, licence: str) -> Table:
    able = {"points": True, "bbox2d": True, "scribble": True, "lasso": True}
    able |= cast("dict[str, bool]", capability.get("supported_interactions", {}))
    thickness = capability.get("preferred_scribble_thickness", 2)
    modalities = order.modalities or (Modality.CT, Modality.MR, Modality.PT, Modality.OTHER)
    forbidden = "; commercial use, which their licence forbids" if "NC" in licence.upper().split("-") else ""
    return {
        "title": f"nnInteractive ({order.source.name})",
        "purpose": "Any structure in any volume, by points, boxes, scribbles and lassos.",
        "not_for": f"Diagnosis without a person who looks at every slice{forbidden}.",
        "backend": "nninteractive",
        "modalities": [str(modality) for modality in modalities],
        "licence": licence,
        "attribution": "Isensee, Rokuss, Krämer et al.: nnInteractive: Redefining 3D Promptable Segmentation. "
        "arXiv:2503.08373 (2025). The weights were brought by the user.",
        "drafts": False,
        "prompts": sorted({str(kind) for name, kind in _KINDS.items() if able.get(name)}),
        "parameters": {
            "scribble_thickness": thickness if isinstance(thickness, list) else [thickness] * 3,
            "solid_boxes": bool(able.get("bbox3d")),
        },
    }


def _capability(path: Path) -> Table:
    """Return what a release says about its network; the older form says less, the oldest is only a name."""
    read = json.loads(_text(path))
    if isinstance(read, dict):
        return read
    if path.name == DESCRIPTIONS[0]:
        raise InvalidApp("it is no JSON object", source=path.name)
    return {}


def _licence(source: Path, configuration: str) -> str:
    """Return the licence as the release names it, in the first line of its file."""
    if (source / _LICENCE).is_file():
        lines = [line.strip() for line in _text(source / _LICENCE).splitlines() if line.strip()]
        if lines:
            return lines[0][:200]
    if (_read(source / _PLANS).get("dataset_name"), configuration) == _OFFICIAL:
        return _OFFICIAL_LICENCE
    return "unknown: ask whoever made the weights"


def _check_networks(plans: Table) -> None:
    """Refuse plans that name a class from elsewhere."""
    pending: list[object] = [plans]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
            named = [value.get("network_class_name"), *_imported(value)]
            if alien := [name for name in named if name is not None and not str(name).startswith(_NETWORKS)]:
                raise InvalidApp(
                    f"its plans name the class {str(alien[0])[:100]!r}, which is not run here", source=_PLANS
                )


def _imported(arch: Mapping[str, object]) -> list[object]:
    """Return the classes that a table of arguments names."""
    names, arguments = arch.get("_kw_requires_import"), arch.get("arch_kwargs")
    if not isinstance(names, list | tuple) or not isinstance(arguments, dict):
        return []
    return [arguments.get(str(name)) for name in names]


def _read(path: Path) -> dict[str, object]:
    read = json.loads(_text(path))
    if not isinstance(read, dict):
        raise InvalidApp("it is no JSON object", source=path.name)
    return read


def _text(path: Path) -> str:
    """Return a text file; raises InvalidApp where it is too large or no text."""
    try:
        if path.stat().st_size > _LARGEST_TEXT_BYTES:
            raise InvalidApp("it is larger than a description can be", source=path.name)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidApp("it cannot be read as text", source=path.name) from error


def _checkpoints(source: Path) -> list[Path]:
    return sorted(source.glob("fold_*/checkpoint_final.pth"))


def _name(source: Path) -> str:
    """Return the name of a model after its folder."""
    name = re.sub(r"[^a-z0-9]+", "_", source.name.lower()).strip("_")[:60]
    return name if name[:1].isalpha() else f"nninteractive_{name}".rstrip("_")
