"""Bundles become apps, or a sentence that says why not."""

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bundle_files import PEDIATRIC, SPLEEN, WHOLE_BODY, adopted, version_of, write_bundle, zipped
from safetensors.torch import load_file

from annotate_server.backends.discovery import EntryPointBackends
from annotate_server.backends.monai_bundle.adapter import MonaiBundleBackend
from annotate_server.backends.monai_bundle.parameters import BundleParameters
from annotate_server.backends.monailabel_app.adapter import MonaiLabelAppBackend
from annotate_server.domain.adoption import Adopting, AdoptionOrder
from annotate_server.domain.errors import AnnotateError, InvalidApp, UnsupportedInput, WeightsInvalid
from annotate_server.domain.labelmap import CodedConcept
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality

BODY = ("background", "spleen", "kidney_right", "kidney_left", "vertebrae_L5", "aorta")


@pytest.fixture(scope="module")
def spleen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "spleen_ct_segmentation")


def changed(folder: Path, change: Callable[[dict], object]) -> Path:
    """Write a bundle whose inference.json was changed."""
    config = copy.deepcopy(SPLEEN)
    change(config)
    write_bundle(folder / "bundle")
    (folder / "bundle/configs/inference.json").write_text(json.dumps(config))
    return folder / "bundle"


def test_the_backend_is_found_and_can_take_models_over() -> None:
    backend = EntryPointBackends().get("monai_bundle")
    assert isinstance(backend, Adopting)


def test_a_folder_becomes_an_app_with_its_card_and_its_weights(spleen: Path, tmp_path: Path) -> None:
    app = adopted(spleen, tmp_path)
    card = version_of(app).app.card
    assert app.name == "spleen_ct_segmentation"
    assert card.title == "Spleen CT segmentation"
    assert card.modalities == (Modality.CT,)
    assert card.not_for == "This is an example, not to be used for diagnostic purposes"
    assert card.licence == "Apache License"
    assert "MONAI team" in card.attribution
    assert "mean_dice 0.961" in card.figures[0]
    assert card.drafts
    assert card.trainable
    assert [(s.index, s.name, s.kind) for s in card.segments] == [
        (1, "Spleen", CodedConcept("78961009", "SCT", "Spleen"))
    ]
    published = torch.load(spleen / "models/model.pt", weights_only=True)
    kept = load_file(app.files["weights.safetensors"])
    assert kept.keys() == published.keys()
    assert all(torch.equal(kept[name], value) for name, value in published.items())


def test_names_become_readable_and_sides_are_coded(tmp_path: Path) -> None:
    card = version_of(adopted(write_bundle(tmp_path / "body", WHOLE_BODY, BODY), tmp_path / "s")).app.card
    assert [s.name for s in card.segments] == ["Spleen", "Kidney right", "Kidney left", "Vertebrae L5", "Aorta"]
    assert [s.laterality and s.laterality.meaning for s in card.segments] == [None, "Right", "Left", None, None]
    assert card.segments[1].kind == card.segments[2].kind
    assert card.segments[3].kind is None


def test_parameters_hold_the_resolved_description_and_read_back_the_same(tmp_path: Path) -> None:
    app = version_of(adopted(write_bundle(tmp_path / "body", WHOLE_BODY, BODY), tmp_path / "s")).app
    parameters = BundleParameters.of(app)
    assert parameters.table() == app.parameters
    assert parameters.window.overlap == 0.25
    assert "@" not in json.dumps(app.parameters)
    assert "$" not in json.dumps(app.parameters)


def test_an_archive_with_a_folder_around_everything_is_the_same_app(spleen: Path, tmp_path: Path) -> None:
    archive = zipped(spleen, tmp_path / "Spleen v0.5.9.zip", below="spleen_ct_segmentation/")
    app = adopted(archive, tmp_path / "s")
    assert MonaiBundleBackend().recognises(archive)
    assert app.name == "spleen_v0_5_9"
    assert app.table == adopted(spleen, tmp_path / "t").table


def test_a_configuration_in_yaml_is_read(spleen: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text(yaml.safe_dump(SPLEEN))
    assert adopted(bundle, tmp_path / "s").table["parameters"] == adopted(spleen, tmp_path / "t").table["parameters"]


def test_a_yaml_tag_that_makes_objects_makes_none(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text("a: !!python/object/apply:os.system ['touch /tmp/x']\n")
    with pytest.raises(InvalidApp, match="cannot be read"):
        adopted(bundle, tmp_path / "s")


def test_only_what_looks_like_a_bundle_is_recognised(spleen: Path, tmp_path: Path) -> None:
    backend = MonaiBundleBackend()
    (tmp_path / "notes.zip").write_text("no archive")
    assert backend.recognises(spleen)
    assert not backend.recognises(tmp_path)
    assert not backend.recognises(tmp_path / "notes.zip")
    assert not backend.recognises(tmp_path / "nowhere")


def test_a_person_names_the_app_and_its_modality(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", network_data_format={})
    with pytest.raises(InvalidApp, match="which modality"):
        adopted(bundle, tmp_path / "s")
    app = adopted(bundle, tmp_path / "t", name="mine", modalities=(Modality.MR,))
    assert app.name == "mine"
    assert version_of(app).app.card.modalities == (Modality.MR,)
    assert version_of(app).app.card.segments[0].name == "Segment 1"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(network_def="$__import__('os').system('id')"), "reaches for the machine"),
        (lambda c: c["network_def"].update(channels="$list(range(9))"), "'network_def::channels' holds the expression"),
        (lambda c: c["network_def"].update(_target_="scripts.net.MyNet"), "'scripts.net.MyNet', which is code that"),
        (lambda c: c["network_def"].update(_target_="os.system"), "'os.system', which is code that"),
        (lambda c: c["network_def"].update(_target_="DiNTS"), "DiNTS does not run here"),
        (lambda c: c["network_def"].update(channels=[10**9, 8, 8]), "up to 4096 are allowed"),
        (lambda c: c["network_def"].update(spatial_dims=2), "2 dimensions"),
        (lambda c: c["network_def"].update(in_channels=4), "4 channels .* a case here is one volume"),
        (lambda c: c["network_def"].update(wings=2), "cannot be built"),
        (lambda c: c.update(network_def="$monai.networks.nets.vista3d132(in_channels=1)"), "VISTA3D"),
        (lambda c: c.pop("network_def"), "'network_def' is missing"),
        (lambda c: c.pop("preprocessing"), "'preprocessing' is missing"),
        (lambda c: c.pop("inferer"), "'inferer' is missing"),
        (
            lambda c: c["preprocessing"]["transforms"].append({"_target_": "Lambdad", "keys": "image"}),
            r"preprocessing::6 \(Lambdad\).*not among those that run here",
        ),
        (
            lambda c: c["preprocessing"]["transforms"][3].update(mode=3),
            r"preprocessing::3 \(Spacingd\)': mode = 3",
        ),
        (
            lambda c: c["preprocessing"]["transforms"][3].update(pixdim=["a"]),
            r"\(Spacingd\)': pixdim",
        ),
        (
            lambda c: c["preprocessing"]["transforms"][2].update(axcodes="XYZ"),
            "does not name three axes",
        ),
        (lambda c: c["preprocessing"]["transforms"][4].update(a_max=float("inf")), "a_max = inf is no number"),
        (lambda c: c["preprocessing"]["transforms"][2].update(spin=1), "the argument 'spin' is not known"),
        (lambda c: c["preprocessing"]["transforms"][2].update(keys=["a", "b"]), "several volumes"),
        (lambda c: c["inferer"].update(_target_="scripts.inferer.Vista3dInferer"), "code that comes with the bundle"),
        (lambda c: c["inferer"].update(_target_="SliceInferer"), "SliceInferer is not known"),
        (lambda c: c["inferer"].update(overlap=1.5), "overlap = 1.5"),
        (lambda c: c["inferer"].update(roi_size=[10**4] * 3), "larger than any machine"),
        (lambda c: c["inferer"].update(roi_size=[23, 24, 16]), r"and \(1, 2, 23, 24, 16\) is expected"),
        (lambda c: c["postprocessing"]["transforms"].pop(2), "makes no labels"),
        (lambda c: c["postprocessing"]["transforms"].reverse(), "must come once, before"),
        (lambda c: c["checkpointloader"].update(load_path="$@bundle_root + '/../../etc/passwd'"), "the bundle has no"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_key(
    change: Callable[[dict], object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(AnnotateError, match=sentence) as raised:
        adopted(changed(tmp_path, change), tmp_path / "s")
    assert str(raised.value).startswith("bundle")


def test_a_bundle_with_code_is_left_to_who_hosts_it(tmp_path: Path) -> None:
    plain = write_bundle(tmp_path / "plain")
    own = changed(tmp_path, lambda c: c["inferer"].update(_target_="scripts.inferer.Vista3dInferer"))
    reading, hosting = MonaiBundleBackend(), MonaiLabelAppBackend()
    assert (reading.recognises(plain), hosting.recognises(plain)) == (True, False)
    assert (reading.recognises(own), hosting.recognises(own)) == (False, True)
    assert not reading.recognises(zipped(own, tmp_path / "own.zip", below="own/"))
    with pytest.raises(InvalidApp, match="code that will run on this machine; the SHA-256") as refused:
        hosting.adopted(AdoptionOrder(own, modalities=(Modality.CT,)), tmp_path / "s", Control())
    assert "--trust " in str(refused.value.remedy)


def test_trust_does_not_let_code_of_a_bundle_run_in_this_program(tmp_path: Path) -> None:
    bundle = changed(tmp_path, lambda c: c["network_def"].update(_target_="scripts.net.MyNet"))
    (bundle / "scripts").mkdir()
    (bundle / "scripts/net.py").write_text("raise SystemExit")
    with pytest.raises(InvalidApp, match="none is run in this program"):
        adopted(bundle, tmp_path / "s", trusted="0" * 64)


class _Payload:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self._target,)


def test_pickled_weights_run_nothing(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    target = tmp_path / "was-here"
    for content in (pickle.dumps(_Payload(target)), _saved({"model": _Payload(target)}), b"no weights at all"):
        (bundle / "models/model.pt").write_bytes(content)
        with pytest.raises(WeightsInvalid, match=r"holds more than numbers, or is damaged"):
            adopted(bundle, tmp_path / "s")
    assert not target.exists()


def _saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_torchscript_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with zipfile.ZipFile(bundle / "models/model.pt", "w") as archive:
        archive.writestr("model/code/__torch__.py", "")
        archive.writestr("model/data.pkl", "")
    with pytest.raises(WeightsInvalid, match="TorchScript, a program"):
        adopted(bundle, tmp_path / "s")


def test_weights_of_another_network_are_named(spleen: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    state = torch.load(spleen / "models/model.pt", weights_only=True)
    first, second, *_ = state
    other = {name: value for name, value in state.items() if name != second}
    torch.save({**other, first: torch.zeros(1), "extra": torch.zeros(1)}, bundle / "models/model.pt")
    with pytest.raises(WeightsInvalid, match=r"they lack .*; they have extra, .*; .* have another shape"):
        adopted(bundle, tmp_path / "s")


def test_weights_may_lie_under_the_name_that_the_loader_gives_them(spleen: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    state = torch.load(spleen / "models/model.pt", weights_only=True)
    torch.save({"model": {f"module.{n}": value for n, value in state.items()}}, bundle / "models/model.pt")
    assert load_file(adopted(bundle, tmp_path / "s").files["weights.safetensors"]).keys() == state.keys()


def test_weights_that_are_no_numbers_are_refused(spleen: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    state = torch.load(spleen / "models/model.pt", weights_only=True)
    torch.save({name: value * float("nan") for name, value in state.items()}, bundle / "models/model.pt")
    with pytest.raises(WeightsInvalid, match="not finite"):
        adopted(bundle, tmp_path / "s")


def test_a_bundle_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "models/model.pt").unlink()
    with pytest.raises(WeightsInvalid, match=r"has no models/model.pt.*monai.bundle download"):
        adopted(bundle, tmp_path / "s")


def test_metadata_that_names_other_channels_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", names=("background", "spleen", "liver"))
    with pytest.raises(InvalidApp, match="answers 2 channels, and channel_def of the metadata names channel 2"):
        adopted(bundle, tmp_path / "s")


def test_metadata_that_are_missing_or_no_table_are_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "configs/metadata.json").write_text("[1, 2]")
    with pytest.raises(InvalidApp, match=r"metadata\.json is no table"):
        adopted(bundle, tmp_path / "s")
    (bundle / "configs/metadata.json").unlink()
    with pytest.raises(InvalidApp, match=r"it has no configs/metadata\.json"):
        adopted(bundle, tmp_path / "t")


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    archive = zipped(write_bundle(tmp_path / "bundle"), tmp_path / "bundle.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("../outside.txt", "x")
    (tmp_path / "s").mkdir()
    with pytest.raises(UnsupportedInput, match="a path that leads out of it"):
        adopted(archive, tmp_path / "s")
    assert not (tmp_path / "outside.txt").exists()


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    weights = bundle / "models/model.pt"
    weights.rename(tmp_path / "elsewhere.pt")
    weights.symlink_to(tmp_path / "elsewhere.pt")
    with pytest.raises(WeightsInvalid, match=r"has no models/model\.pt"):
        adopted(bundle, tmp_path / "s")


def test_shared_weights_are_kept_each_by_its_name(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", PEDIATRIC)
    app = adopted(bundle, tmp_path / "s")
    published = torch.load(bundle / "models/model.pt", weights_only=True)
    assert load_file(app.files["weights.safetensors"]).keys() == published.keys()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"wings": 2},
        {"steps": [{"step": "fly"}]},
        {"steps": [{"step": "turn", "axes": "RAS", "spin": 1}]},
        {"window": {"size": [1, 2]}},
        {"network": {"name": "Evil", "arguments": {"out_channels": 2}}},
    ],
)
def test_parameters_that_were_changed_by_hand_are_refused(parameters: dict, spleen: Path, tmp_path: Path) -> None:
    app = adopted(spleen, tmp_path)
    table = {**app.table, "parameters": {**app.table["parameters"], **parameters} if parameters else {}}
    version = version_of(type(app)(app.name, table, app.files))
    with pytest.raises(InvalidApp):
        MonaiBundleBackend().load(version, "cpu")
