"""An app as a table of the form of `app.toml`: what `stores.folder_apps.app_of` reads back."""

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import TypeAlias

from annotate_server.domain.labelmap import ANATOMICAL_STRUCTURE, CodedConcept, Segment
from annotate_server.domain.model import App, Locator, ModelCard, WeightFile
from annotate_server.domain.recipe import Recipe

Table: TypeAlias = dict[str, object]


def app_table(app: App) -> Table:
    """Return the description of an app as lists, tables, texts and numbers; name, folder and digest are not in it.

    What has its usual value is left out, so that equal apps give equal tables.
    """
    table: Table = {**_card(app.card), "backend": app.backend}
    if app.card.segments:
        table["segments"] = [segment_table(segment) for segment in app.card.segments]
    if app.weights:
        table["weights"] = [_weight(weight) for weight in app.weights]
    if app.card.locator is not None:
        table["locator"] = _locator(app.card.locator)
    if app.parameters:
        table["parameters"] = _plain(app.parameters)
    if app.recipe is not None:
        table["recipe"] = _recipe(app.recipe)
    return table


def _card(card: ModelCard) -> Table:
    return {
        "title": card.title,
        "purpose": card.purpose,
        "not_for": card.not_for,
        "modalities": [str(modality) for modality in card.modalities],
        "licence": card.licence,
        "attribution": card.attribution,
        "body_part": card.body_part,
        "drafts": card.drafts,
        "trainable": card.trainable,
        "prompts": sorted(str(kind) for kind in card.prompts),
        "min_slices": card.min_slices,
        "figures": list(card.figures),
    }


def segment_table(segment: Segment) -> Table:
    """Return a segment as a table of `[[segments]]`."""
    table: Table = {"index": segment.index, "name": segment.name, "colour": list(segment.colour)}
    if segment.kind is not None:
        table["kind"] = _concept(segment.kind)
    if segment.category != ANATOMICAL_STRUCTURE:
        table["category"] = _concept(segment.category)
    if segment.laterality is not None:
        table["laterality"] = _concept(segment.laterality)
    return table


def _concept(concept: CodedConcept) -> list[str]:
    return [concept.value, concept.scheme, concept.meaning]


def _weight(weight: WeightFile) -> Table:
    table: Table = {"name": weight.name, "sha256": weight.sha256, "size_bytes": weight.size_bytes}
    if weight.url is not None:
        table["url"] = weight.url
    if weight.bundled:
        table["bundled"] = True
    return table


def _locator(locator: Locator) -> Table:
    return {field.name: getattr(locator, field.name) for field in fields(locator)}


def _recipe(recipe: Recipe) -> Table:
    usual = Recipe()
    return {
        field.name: _plain(value)
        for field in fields(recipe)
        if (value := getattr(recipe, field.name)) != getattr(usual, field.name)
    }


def _plain(value: object) -> object:
    """Return a value in the types that TOML and JSON have."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value
