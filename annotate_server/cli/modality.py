"""The modality that a person declares on the command line."""

from enum import StrEnum
from typing import Annotated

import typer

from annotate_server.domain.volume import Modality


class DeclaredModality(StrEnum):
    """What a person can declare of files that name no modality."""

    CT = "CT"
    MR = "MR"


ModalityOption = Annotated[
    DeclaredModality | None,
    typer.Option("--modality", help="Of files that name none (NIfTI); default: what the model is made for."),
]


def declared(modality: DeclaredModality | None) -> Modality | None:
    """Return the modality that was declared, if any was."""
    return None if modality is None else Modality(modality.value)
