"""Recipes as the JSON that a training's order and a version's record hold."""

import json
from dataclasses import asdict
from typing import Any

from annotate_server.domain.errors import StorageFailed
from annotate_server.domain.recipe import Freezing, Precision, Recipe


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as canonical JSON."""
    return json.dumps(asdict(recipe), sort_keys=True, separators=(",", ":"))


def recipe_of(text: str) -> Recipe:
    """Return the recipe of `recipe_text`; raises StorageFailed for anything else."""
    try:
        table: dict[str, Any] = json.loads(text)
        patch = table["patch"]
        values = {
            **table,
            "patch": None if patch is None else tuple(patch),
            "freezing": Freezing(table["freezing"]),
            "precision": Precision(table["precision"]),
            "sweep": tuple(table["sweep"]),
            "mirror_axes": tuple(table["mirror_axes"]),
        }
        return Recipe(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise StorageFailed(f"a recipe cannot be read ({type(error).__name__}: {error})") from error
