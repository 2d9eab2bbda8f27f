"""The cache of volumes: what comes out is what went in, and it stays within its size without hurting who reads."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.errors import NoSpace, StorageFailed
from annotate_server.domain.volume import Acquisition, Modality, Volume
from annotate_server.stores.volume_cache import FolderVolumeCache

MANY = 1 << 40


def a_volume(value: int = 0, dtype: str = "<i2") -> Volume:
    voxels = (np.arange(7 * 8 * 9).reshape(7, 8, 9) + value).astype(dtype)
    acquisition = Acquisition("T1", ("ORIGINAL", "PRIMARY"), "HEAD", "b=800", ("The qform was not used.",))
    return Volume(voxels, oblique_geometry(voxels.shape), Modality.MR, "1", acquisition)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "volumes"


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "|u1", "<f4", "<f8", "|b1", "<i4"])
def test_a_volume_comes_back_as_it_was(folder: Path, dtype: str) -> None:
    volume = a_volume(dtype=dtype)
    FolderVolumeCache(folder, MANY).put(volume)
    back = FolderVolumeCache(folder, MANY).get(volume.digest)
    assert back is not None
    assert back.voxels.dtype == volume.voxels.dtype
    np.testing.assert_array_equal(back.voxels, volume.voxels)
    assert replace(back, voxels=volume.voxels) == volume
    assert not back.voxels.flags.writeable
    assert Volume(back.voxels, back.geometry).digest == back.digest == volume.digest


def test_a_view_in_another_order_comes_back_the_same(folder: Path) -> None:
    volume = a_volume()
    turned = Volume(volume.voxels.transpose(2, 0, 1)[::-1], oblique_geometry((9, 7, 8)))
    cache = FolderVolumeCache(folder, MANY)
    cache.put(turned)
    back = cache.get(turned.digest)
    assert back is not None
    np.testing.assert_array_equal(back.voxels, turned.voxels)
    assert (back.modality, back.unit, back.acquisition) == (None, "1", Acquisition())


def test_what_was_never_put_is_not_there(folder: Path) -> None:
    assert FolderVolumeCache(folder, MANY).get("0" * 64) is None


def test_a_name_that_is_no_digest_is_no_path(folder: Path) -> None:
    for name in ("../secret", "", "0" * 63, "G" * 64):
        with pytest.raises(ValueError, match="no SHA-256"):
            FolderVolumeCache(folder, MANY).get(name)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("length", [0, 40, 200])
def test_a_damaged_entry_is_not_there_and_can_be_put_again(folder: Path, suffix: str, length: int) -> None:
    cache, volume = FolderVolumeCache(folder, MANY), a_volume()
    cache.put(volume)
    path = folder / f"{volume.digest}{suffix}"
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get(volume.digest) is None
    cache.put(volume)
    assert cache.get(volume.digest) is not None


def test_half_an_entry_is_not_there(folder: Path) -> None:
    cache, volume = FolderVolumeCache(folder, MANY), a_volume()
    for suffix in (".npy", ".json"):
        cache.put(volume)
        (folder / f"{volume.digest}{suffix}").unlink()
        assert cache.get(volume.digest) is None


def test_the_least_recently_used_volumes_go_first(folder: Path) -> None:
    volumes = [a_volume(value) for value in range(4)]
    cache = FolderVolumeCache(folder, MANY)
    for age, volume in enumerate(volumes[:3]):
        cache.put(volume)
        os.utime(folder / f"{volume.digest}.npy", (age, age))
    assert cache.get(volumes[0].digest) is not None  # used now, and dropped
    size = (folder / f"{volumes[0].digest}.npy").stat().st_size
    FolderVolumeCache(folder, 2 * size).put(volumes[3])
    there = [cache.get(volume.digest) is not None for volume in volumes]
    assert there == [True, False, False, True]
    assert len(list(folder.iterdir())) == 4


def test_a_volume_in_use_stays_until_it_is_not(folder: Path) -> None:
    cache, used, other = FolderVolumeCache(folder, 1), a_volume(), a_volume(1)
    cache.put(used)
    mapping = cache.get(used.digest)
    assert mapping is not None
    part = mapping.voxels[2:3]
    del mapping
    cache.put(other)
    assert cache.get(used.digest) is not None
    np.testing.assert_array_equal(part, used.voxels[2:3])
    del part
    cache.put(a_volume(2))
    assert cache.get(used.digest) is None


def test_a_volume_that_another_process_uses_stays(folder: Path) -> None:
    cache, used = FolderVolumeCache(folder, 1), a_volume()
    cache.put(used)
    reader = (
        "import sys; from pathlib import Path; from annotate_server.stores.volume_cache import FolderVolumeCache;"
        "volume = FolderVolumeCache(Path(sys.argv[1]), 1).get(sys.argv[2]); print(volume.voxels.max(), flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", reader, str(folder), used.digest]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{used.voxels.max()}\n"
        cache.put(a_volume(1))
        assert (folder / f"{used.digest}.npy").exists()
        process.kill()
    cache.put(a_volume(2))
    assert not (folder / f"{used.digest}.npy").exists()


def test_a_volume_larger_than_the_cache_is_kept_while_it_is_the_newest(folder: Path) -> None:
    cache, volume = FolderVolumeCache(folder, 1), a_volume()
    cache.put(volume)
    assert cache.get(volume.digest) is not None


def test_what_a_killed_process_left_is_cleared_away(folder: Path) -> None:
    folder.mkdir()
    left, fresh = folder / ".part-left", folder / ".part-fresh"
    for path in (left, fresh):
        path.write_bytes(b"x")
    os.utime(left, (1, 1))
    FolderVolumeCache(folder, MANY).put(a_volume())
    assert not left.exists()
    assert fresh.exists()


def test_a_full_disk_is_named_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    cache, volume = FolderVolumeCache(folder, MANY), a_volume()
    with pytest.raises(StorageFailed) as caught:
        cache.put(volume)
    assert isinstance(caught.value, NoSpace)
    assert list(folder.iterdir()) == []
    assert cache.get(volume.digest) is None
