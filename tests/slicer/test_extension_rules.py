"""The rules of Slicer's extension index and of its templates, which need no Slicer to be checked."""

import ast
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

EXTENSION = Path(__file__).parents[2] / "viewer_plugin/slicer"
MODULE = EXTENSION / "AnnotateServer"
NAME = "AnnotateServer"
SCRIPTS = sorted(path for path in MODULE.rglob("*.py") if "__pycache__" not in path.parts)
PANEL = ET.parse(MODULE / f"Resources/UI/{NAME}.ui").getroot()  # noqa: S314  it is ours
KEYS = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
"""The properties of slicer-extension-catalog-entry-schema-v1.0.1, which allows no others."""


def settings_of(path: Path) -> dict[str, str]:
    """Return what a CMake file sets."""
    found = re.findall(r"^set\((\w+)\s+(.*?)\s*\)(?:\s*#.*)?$", path.read_text(), re.MULTILINE | re.DOTALL)
    return {name: value.strip().strip('"') for name, value in found}


def test_the_entry_of_the_index_keeps_to_its_schema() -> None:
    text = (EXTENSION / f"{NAME}.json").read_bytes()
    assert b"\r" not in text
    assert text.endswith(b"}\n")
    entry = json.loads(text)
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(KEYS)
    for name, value in entry.items():
        assert isinstance(value, KEYS[name]), name
    assert entry["$schema"].endswith("/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["tier"] in (1, 3, 5)
    assert entry["scm_url"].startswith("https://")
    assert entry["scm_url"].endswith(".git")


def test_the_extension_is_not_called_slicer_and_its_repository_is() -> None:
    entry = json.loads((EXTENSION / f"{NAME}.json").read_text())
    assert not NAME.lower().startswith("slicer")
    assert entry["scm_url"].rpartition("/")[2].startswith("Slicer")
    assert re.search(rf"^project\({NAME}\)$", (EXTENSION / "CMakeLists.txt").read_text(), re.MULTILINE)


def test_what_the_index_shows_of_the_extension_is_there() -> None:
    told = settings_of(EXTENSION / "CMakeLists.txt")
    entry = json.loads((EXTENSION / f"{NAME}.json").read_text())
    assert "EXTENSION_CATEGORY" not in told  # since 5.8 the index alone says it
    assert entry["category"] == "Segmentation"
    assert not entry["build_dependencies"]
    assert told["EXTENSION_DEPENDS"] == "NA"
    assert told["EXTENSION_HOMEPAGE"] + ".git" == entry["scm_url"]
    assert len(told["EXTENSION_DESCRIPTION"].split(". ")) <= 2
    for each in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        for address in told[each].split():
            assert address.startswith("https://raw.githubusercontent.com/"), address
            assert (EXTENSION / address.partition("/main/")[2]).read_bytes().startswith(b"\x89PNG"), address
    assert told["EXTENSION_CONTRIBUTORS"]


def test_the_template_is_kept() -> None:
    text = (EXTENSION / "CMakeLists.txt").read_text()
    order = [
        "cmake_minimum_required",
        "project(",
        "find_package(Slicer REQUIRED)",
        "include(${Slicer_USE_FILE})",
        f"add_subdirectory({NAME})",
        "## NEXT_MODULE",
        "include(${Slicer_EXTENSION_GENERATE_CONFIG})",
        "include(${Slicer_EXTENSION_CPACK})",
    ]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    module = (MODULE / "CMakeLists.txt").read_text()
    for each in ("slicerMacroBuildScriptedModule", "WITH_GENERIC_TESTS", "slicer_add_python_unittest"):
        assert each in module
    tree = ast.parse((MODULE / f"{NAME}.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {NAME, f"{NAME}Widget", f"{NAME}Logic", f"{NAME}Test"} <= classes


def test_every_file_is_listed_in_cmake_else_it_would_not_be_installed() -> None:
    text = (MODULE / "CMakeLists.txt").read_text()
    listed = {
        each.replace("${MODULE_NAME}", NAME) for each in re.findall(r"^  (\S+\.(?:py|ui|png))$", text, re.MULTILINE)
    }
    there = {
        str(path.relative_to(MODULE))
        for path in MODULE.rglob("*")
        if path.suffix in (".py", ".ui", ".png") and "__pycache__" not in path.parts
    }
    assert listed == there


def test_each_widget_of_mrml_in_the_panel_gets_the_scene() -> None:
    assert PANEL.find("widget").get("class") == "qMRMLWidget"
    of_mrml = {each.get("name") for each in PANEL.iter("widget") if each.get("class").startswith("qMRML")} - {NAME}
    connected = {
        each.findtext("receiver")
        for each in PANEL.iter("connection")
        if each.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)" and each.findtext("sender") == NAME
    }
    assert of_mrml == connected
    used = {each.get("class") for each in PANEL.iter("widget")}
    custom = {each.findtext("class") for each in PANEL.iter("customwidget")}
    assert {each for each in used if each.startswith(("qMRML", "ctk"))} <= custom


def test_names_in_the_panel_are_unique_and_its_parameters_are_those_of_the_parameter_node() -> None:
    names = [each.get("name") for each in PANEL.iter("widget")]
    assert len(names) == len(set(names))
    bound = {each.findtext("string") for each in PANEL.iter("property") if each.get("name") == "SlicerParameterName"}
    tree = ast.parse((MODULE / f"{NAME}.py").read_text())
    (node,) = (each for each in tree.body if isinstance(each, ast.ClassDef) and each.name.endswith("ParameterNode"))
    members = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
    assert bound == members


def test_the_widgets_that_the_panel_class_uses_are_in_the_panel() -> None:
    names = {each.get("name") for each in PANEL.iter("widget")}
    text = (MODULE / f"{NAME}Lib/panel.py").read_text()
    used = set(re.findall(r"\bui\.(\w+)", text))
    assert used - names == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_oldest_slicer_understands_it_and_nothing_has_to_be_installed(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    allowed = {"numpy", "qt", "slicer", "vtk", "SegmentEditorEffects", "qSlicerSegmentationsEditorEffectsPythonQt"}
    allowed |= {f"{NAME}Lib", NAME}
    standard = {
        "__future__",
        "collections",
        "contextlib",
        "hashlib",
        "json",
        "os",
        "pathlib",
        "struct",
        "tempfile",
        "time",
    }
    standard |= {"typing", "zlib"}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] in allowed | standard, name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            assert not node.keywords, "zip(strict=) came with Python 3.10"
    _check_annotations(tree)


def _check_annotations(tree: ast.Module) -> None:
    """Refuse `X | Y` and `list[int]` where Python 3.9 would evaluate them: without the future import."""
    is_deferred = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in tree.body
    )
    for node in ast.walk(tree):
        said = [node.annotation] if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation else []
        said += [node.returns] if isinstance(node, ast.FunctionDef) and node.returns else []
        for each in said:
            has_bar = any(isinstance(part, ast.BinOp) for part in ast.walk(each))
            assert is_deferred or not has_bar, ast.unparse(each)


def test_nothing_blocks_the_window() -> None:
    for path in SCRIPTS:
        text = path.read_text()
        for call in ("processEvents", "import requests", "urllib", "http.client", "time.sleep", "waitFor"):
            found = call in text
            assert not found or (call == "processEvents" and path.name == f"{NAME}.py"), f"{path.name}: {call}"


def test_ras_and_lps_meet_in_one_function() -> None:
    signs = re.compile(r"\(?-1(\.0)?, *-1(\.0)?, *1(\.0)?")
    places = [path.name for path in SCRIPTS for line in path.read_text().splitlines() if signs.search(line)]
    assert places == [f"{NAME}.py", "places.py"]  # the self-test says a place without the code that it tests
