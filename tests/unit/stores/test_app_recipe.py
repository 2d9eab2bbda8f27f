"""An app's recipe, and an app as a table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from annotate_server.domain.app_table import app_table
from annotate_server.domain.errors import InvalidApp
from annotate_server.domain.recipe import Freezing, Precision, Recipe
from annotate_server.stores.folder_apps import app_of, read_app

APPS = sorted(path.parent for path in (Path(__file__).parents[3] / "apps").glob("*/app.toml"))


@pytest.mark.parametrize("folder", APPS, ids=lambda folder: folder.name)
def test_an_app_comes_back_from_its_table(folder: Path) -> None:
    app = read_app(folder)
    table = json.loads(json.dumps(app_table(app)))
    assert app_of(table, app.name, app.folder, app.digest) == app


def test_every_field_of_a_recipe_comes_back() -> None:
    recipe = Recipe(
        steps=7,
        full_steps=8,
        full_every=3,
        batch=4,
        patch=(8, 16, 24),
        learning_rate=1e-4,
        new_share=0.25,
        freezing=Freezing.ALL_BUT_NORMS,
        precision=Precision.FP32,
        sweep=(0.5, 1.0),
        mirror_axes=(0, 2),
        seed=9,
        workers=2,
    )
    app = replace(read_app(APPS[0]), recipe=recipe)
    assert app_of(json.loads(json.dumps(app_table(app))), app.name, app.folder, app.digest).recipe == recipe


def test_a_whole_number_is_a_number() -> None:
    table = {**app_table(read_app(APPS[0])), "recipe": {"weight_decay": 0, "sweep": [1]}}
    recipe = app_of(table, "name", Path(), "digest").recipe
    assert recipe is not None
    assert recipe.weight_decay == 0.0
    assert recipe.sweep == (1.0,)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"stpes": 3}, "unknown keys stpes"),
        ({"steps": 0}, "steps must be more than 0"),
        ({"steps": 2.5}, "'steps' has the wrong type"),
        ({"steps": True}, "'steps' has the wrong type"),
        ({"patch": [8, 8]}, "'patch' must be 3 whole numbers"),
        ({"sweep": ["all"]}, "'sweep' must be a list of numbers"),
        ({"sweep": [2.0]}, "shares must lie between 0 and 1"),
        ({"mirror_axes": [3]}, "'mirror_axes' must be axes"),
        ({"precision": "fp8"}, "fp8"),
        ({"learning_rate": "low"}, "'learning_rate' has the wrong type"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(recipe: dict[str, object], sentence: str) -> None:
    table = {**app_table(read_app(APPS[0])), "recipe": recipe}
    with pytest.raises(InvalidApp, match=sentence) as caught:
        app_of(table, "name", Path("name"), "digest")
    assert "[recipe]" in str(caught.value)
