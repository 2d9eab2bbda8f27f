from annotate_server.workflows.output_names import output_names


def test_folders_stay_and_suffixes_go() -> None:
    assert output_names(["img/case 1.nii.gz", "b.seg.nrrd", "CT/series#b=800"]) == {
        "img/case 1.nii.gz": "img/case-1",
        "b.seg.nrrd": "b",
        "CT/series#b=800": "CT/series-b=800",
    }


def test_names_that_would_collide_are_told_apart_for_ever() -> None:
    names = output_names(["a.nii", "a.mha", "A.nii.gz"])
    assert len({name.casefold() for name in names.values()}) == 3
    assert output_names(["A.nii.gz", "a.nii", "a.mha"]) == names


def test_no_name_leaves_the_folder_or_hides() -> None:
    names = output_names(["../../etc/passwd", "..", "/abs/x.nii", ".hidden.nii", "<script>.nii", "日本.nii"])
    for name in names.values():
        parts = name.split("/")
        assert not name.startswith("/")
        assert all(part and not part.startswith(".") for part in parts)
        assert "<" not in name
