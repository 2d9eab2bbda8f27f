"""Whatever an index says, it is read without an error, and no path of it is opened."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from annotate_server.imaging.foreign_datastore import read_foreign_datastore
from annotate_server.workflows.importing_names import Naming

WORDS = st.sampled_from(["a", "..", "../a", "/", ".nii.gz", "final", "\ud800", "\n", "label_final_a.nii.gz"])
KEYS = st.one_of(
    WORDS, st.sampled_from(["image", "labels", "ext", "info", "id", "tag", "ts", "params", "label_info", "label_names"])
)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=True))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
INDEX = st.fixed_dictionaries({"objects": VALUES}, optional={"images_dir": VALUES, "labels_dir": VALUES})


@given(index=INDEX, name=st.sampled_from(["datastore_v2.json", "datastore.json"]))
@settings(deadline=None, max_examples=80)
def test_any_index_leaves_what_the_folders_list(index: object, name: str) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made) / "studies"
        (folder / "labels/final").mkdir(parents=True)
        for path in ("a.nii.gz", "labels/final/a.nii.gz", "../secret.nii.gz"):
            (folder / path).touch()
        (folder / name).write_text(json.dumps(index))
        found = read_foreign_datastore(folder)
        assert [volume.path.name for volume in found.volumes] == ["a.nii.gz"]
        labels = found.volumes[0].labels
        assert all(label.path.resolve().is_relative_to(folder.resolve()) for label in labels)
        Naming().segments(labels)
        json.dumps([Naming().key(label.told) for label in labels])
        assert all(text.isprintable() for each in found.unplaced for text in (each.name, each.tag))
