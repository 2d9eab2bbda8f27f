"""What is understood of a bundle's expressions, and what is refused."""

from collections.abc import Callable

import pytest

from annotate_server.backends.monai_bundle.config import Config
from annotate_server.domain.errors import InvalidApp


def said(expression: str, **others: object) -> object:
    return Config({"it": expression, **others}, "bundle").get("it")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$@root + '/models/' + @name", "./models/model.pt"),
        ("$os.path.join(@root, 'models', @name)", "./models/model.pt"),
        ("$[1.5, 1.5, 1.5] if @options#fine else [3.0, 3.0, 3.0]", [1.5, 1.5, 1.5]),
        ("$'a' if not @options::fine else 'b'", "b"),
        ("$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')", "device"),
        ("$@network.to(@device)", {"_target_": "UNet"}),
        ("$copy.deepcopy(@network)", {"_target_": "UNet"}),
        ("$len(@labels) + @more", 4),
        ("$@steps + @steps ", [{"_target_": "A"}, {"_target_": "A"}]),
        ("$np.float32", "float32"),
        ("$monai.utils.CommonKeys.IMAGE", "image"),
        ("$monai.networks.nets.UNet(in_channels=@more)", {"_target_": "monai.networks.nets.UNet", "in_channels": 2}),
        ("$-1.5", -1.5),
        ("$None", None),
        ("@options::sizes::1", 7),
        ("plain text", "plain text"),
    ],
)
def test_idioms_of_published_bundles_are_read_as_data(expression: str, expected: object) -> None:
    others = {
        "root": ".",
        "name": "model.pt",
        "options": {"fine": True, "sizes": [3, 7]},
        "network": {"_target_": "UNet"},
        "device": "$torch.device('cpu')",
        "labels": {"spleen": 1, "background": 0},
        "more": 2,
        "steps": [{"_target_": "A"}, {"_target_": "B", "_disabled_": True}],
    }
    assert said(expression, **others) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "$list(sorted(glob.glob('/data/*.nii.gz')))",
        "$open('/etc/passwd').read()",
        "$os.listdir('/')",
        "$torch.load('weights.pt')",
        "$lambda x: x > 0",
        "$[i for i in range(10 ** 9)]",
        "$9 ** 9 ** 9",
        "$'a' * 1000000000",
        "$'a' + 1",
        "$1 if @other else 2",
        "$f'{@other}'",
        "$@other['key']",
        "$import os",
        "$(((",
        "$" + "(" * 3000,
        "$" + "-" * 5000 + "1",
        "$" + "-" * 3000 + "1",
        "$" + " + ".join(["1"] * 1000),
    ],
)
def test_other_expressions_are_refused_with_the_key_that_holds_them(expression: str) -> None:
    with pytest.raises(InvalidApp, match=r"'it' holds the expression.*none is ever run"):
        said(expression, other={"key": 1})


@pytest.mark.parametrize(
    "expression",
    [
        "$__import__('os').system('id')",
        "$().__class__.__bases__[0].__subclasses__()",
        "$getattr(os, 'popen')('id')",
        "$os.system('id')",
        "$eval('1')",
        "$subprocess.run(['id'])",
    ],
)
def test_a_hostile_expression_anywhere_refuses_the_whole_bundle(expression: str) -> None:
    with pytest.raises(InvalidApp, match="'initialize::0' holds an expression that reaches for the machine"):
        Config({"network_def": {"_target_": "UNet"}, "initialize": [expression]}, "bundle")


def test_references_in_a_circle_are_refused() -> None:
    with pytest.raises(InvalidApp, match="refers to itself"):
        said("@that", that="$@it + '/a'")


def test_a_reference_to_nothing_names_what_is_missing() -> None:
    with pytest.raises(InvalidApp, match="'nowhere::1' is missing"):
        said("@nowhere#1")


@pytest.mark.parametrize("form", [lambda name: [f"@{name}", f"@{name}"], lambda name: f"$@{name} + @{name}"])
def test_references_that_double_again_and_again_are_refused(form: Callable[[str], object]) -> None:
    chain = {f"a{n}": form(f"a{n + 1}") for n in range(35)}
    with pytest.raises(InvalidApp, match=r"more than any bundle needs|none of those that are understood"):
        Config({**chain, "a35": "text"}, "bundle").get("a0")


def test_a_configuration_that_grows_out_of_bounds_is_refused() -> None:
    laughs: object = ["ha"]
    for _ in range(30):
        laughs = [laughs, laughs]
    with pytest.raises(InvalidApp, match="more values than any bundle needs"):
        Config({"laughs": laughs}, "bundle")
