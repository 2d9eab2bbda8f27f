"""Whether a model is made for a volume: from the card and what the file says, before anything is computed."""

from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.model import App, ModelCard
from annotate_server.domain.volume import Acquisition, Modality, Volume
from annotate_server.imaging.modality_guess import contradicts


def check_stored(stored: StoredVolume, app: App) -> None:
    """Raise NotMadeFor where the headers alone already say that `app` is not made for this volume."""
    if Acquisition(image_type=stored.image_type).is_localizer:
        raise NotMadeFor("it is a localizer, on which nothing is drawn", source=stored.key)
    if stored.modality is not None and stored.modality not in app.card.modalities:
        raise NotMadeFor(
            f"its modality is {stored.modality}; {app.name} is made for {_list(app.card)}", source=stored.key
        )
    is_slices = stored.series_uid is not None and len(stored.files) > 1
    if is_slices and len(stored.files) < app.card.min_slices:
        raise NotMadeFor(
            f"it has {len(stored.files)} slices; {app.name} needs {app.card.min_slices} or more", source=stored.key
        )


def check_volume(volume: Volume, app: App, name: str) -> None:
    """Raise NotMadeFor where the voxels show that `app` is not made for this volume."""
    fewest = min(volume.geometry.shape)
    if fewest < app.card.min_slices:
        raise NotMadeFor(f"it has {fewest} slices; {app.name} needs {app.card.min_slices} or more", source=name)
    if volume.modality is not None and volume.modality not in app.card.modalities:
        raise NotMadeFor(f"its modality is {volume.modality}; {app.name} is made for {_list(app.card)}", source=name)
    if volume.modality is None and len(app.card.modalities) == 1:
        reason = contradicts(volume, app.card.modalities[0])
        if reason:
            raise NotMadeFor(f"{reason}; {app.name} is made for {_list(app.card)}", source=name)


def with_modality(volume: Volume, card: ModelCard, declared: Modality | None) -> Volume:
    """Return the volume with the modality that a person declared, or that the chosen model is made for.

    A file that names its modality keeps it. NIfTI names none: who chose a CT model has said that it is a CT, unless
    the voxels contradict it (`check_volume`).
    """
    if volume.modality is not None:
        return volume
    modality = declared or (card.modalities[0] if len(card.modalities) == 1 else None)
    return Volume(
        volume.voxels,
        volume.geometry,
        modality,
        "HU" if modality is Modality.CT else volume.unit,
        volume.acquisition,
    )


def _list(card: ModelCard) -> str:
    return " and ".join(card.modalities)
