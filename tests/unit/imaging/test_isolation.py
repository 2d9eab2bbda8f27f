"""The isolation of parsers: whatever a parser does, the caller goes on and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import ParserFailed, StorageFailed, TooLarge, UntrustedGeometry
from annotate_server.domain.volume import Volume
from annotate_server.imaging.isolation import Isolated, Limits, allowance_s

PLANTED = {
    name: f"planted_parsers:{name}"
    for name in (
        "echo",
        "process_id",
        "crash",
        "crash_on_bad",
        "crash_once",
        "hang",
        "swallow_memory",
        "fail",
        "print_a_lot",
        "make_volume",
    )
} | {"missing": "planted_parsers:not_there"}


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Isolated]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Isolated(Limits(memory_bytes=4 << 30, scratch=tmp_path), PLANTED) as ready:
        yield ready


def call(isolated: Isolated, function: str, argument: object = None, allowance: float = 20.0) -> object:
    return isolated.call(function, argument, allowance_s=allowance, source="case.nii")


def test_values_and_nouns_cross_unchanged(isolated: Isolated) -> None:
    stored = StoredVolume("a/b", Format.NIFTI, (Path("x\udcff.nii"),), PatientKey("i", "p"), image_type=("ORIGINAL",))
    for value in (None, True, 3, 2.5, "text", (1, ("a",)), {"k": 1, 2: "v"}, Path("/a"), stored):
        assert call(isolated, "echo", value) == value


def test_an_array_crosses_both_ways(isolated: Isolated) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    back = call(isolated, "echo", array)
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


def test_a_volume_crosses_and_leaves_no_file(isolated: Isolated, tmp_path: Path) -> None:
    volume = call(isolated, "make_volume", 5)
    assert isinstance(volume, Volume)
    assert volume.voxels[4, 5, 6] == 5 * 6 * 7 - 1
    assert volume.geometry.spacing_mm == (1.5, 1.0, 0.5)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_noun_does_not_cross(isolated: Isolated) -> None:
    with pytest.raises(TypeError, match="bytes does not cross"):
        call(isolated, "echo", b"bytes")


def test_a_domain_error_arrives_as_itself(isolated: Isolated) -> None:
    with pytest.raises(UntrustedGeometry) as caught:
        call(isolated, "crash_on_bad", "refuse.nii")
    assert str(caught.value) == "refuse.nii: the axes are not at right angles. Export it again."


def test_a_crash_names_the_file_and_the_next_call_works(isolated: Isolated) -> None:
    with pytest.raises(ParserFailed, match=r"case\.nii: the parser crashed on it \(SIGSEGV\)"):
        call(isolated, "crash")
    assert call(isolated, "echo", 1) == 1


def test_a_hang_is_cut_off(isolated: Isolated) -> None:
    call(isolated, "echo")
    with pytest.raises(ParserFailed, match="did not end within 1 s"):
        call(isolated, "hang", allowance=1.0)
    assert call(isolated, "echo", 1) == 1


def test_too_little_memory_is_too_large(isolated: Isolated) -> None:
    with pytest.raises(TooLarge, match=r"case\.nii: reading it takes more memory"):
        call(isolated, "swallow_memory")


def test_an_unforeseen_exception_does_not_quote_the_file(isolated: Isolated) -> None:
    with pytest.raises(ParserFailed, match="ValueError in planted_parsers") as caught:
        call(isolated, "fail")
    assert "Doe" not in str(caught.value)


def test_noise_of_a_parser_neither_blocks_nor_shows(isolated: Isolated, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(isolated, "print_a_lot", 500) == 500
    assert capfd.readouterr() == ("", "")


def test_only_the_table_can_be_called(isolated: Isolated) -> None:
    for name in ("os:system", "missing"):
        with pytest.raises(ParserFailed, match="cannot load its parser"):
            call(isolated, name, "true")


def test_the_process_stays_for_the_next_call(isolated: Isolated) -> None:
    assert call(isolated, "process_id") == call(isolated, "process_id") != os.getpid()


def test_a_process_that_died_between_calls_is_replaced(isolated: Isolated) -> None:
    first = call(isolated, "process_id")
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    assert call(isolated, "process_id") != first


def test_each_names_the_culprits_and_stops_no_other(isolated: Isolated) -> None:
    items = ["a", "refuse1", "b", "crash1", "crash2", "c", "hang1", "d"]
    outcomes = list(isolated.each("crash_on_bad", items, allowance_s=lambda _: 1.0, chunk=5))
    assert [outcome.item for outcome in outcomes] == items
    assert [outcome.answer for outcome in outcomes] == ["A", None, "B", None, None, "C", None, "D"]
    errors = [type(outcome.error) for outcome in outcomes if outcome.error]
    assert errors == [UntrustedGeometry, ParserFailed, ParserFailed, ParserFailed]
    assert str(outcomes[3].error).startswith("crash1: the parser crashed")


def test_an_interruption_in_the_middle_does_not_mix_up_answers(isolated: Isolated) -> None:
    def interrupted(item: str) -> float:
        if item == "b":
            raise KeyboardInterrupt
        return 20.0

    with pytest.raises(KeyboardInterrupt):
        list(isolated.each("crash_on_bad", ["a", "b", "c"], allowance_s=interrupted))
    assert call(isolated, "echo", "next") == "next"


def test_each_can_be_mixed_with_calls(isolated: Isolated) -> None:
    seen = []
    for outcome in isolated.each("crash_on_bad", ["a", "b", "c"], chunk=1):
        seen.append((outcome.answer, call(isolated, "echo", outcome.item)))
    assert seen == [("A", "a"), ("B", "b"), ("C", "c")]


def test_a_crash_that_another_file_prepared_is_tried_again(isolated: Isolated, tmp_path: Path) -> None:
    call(isolated, "echo")
    assert call(isolated, "crash_once", str(tmp_path / "marker")) == "survived"


def test_a_full_scratch_folder_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with (
        Isolated(Limits(file_bytes=1 << 16, scratch=tmp_path), PLANTED) as small,
        pytest.raises(StorageFailed, match="Free space there"),
    ):
        call(small, "make_volume", 60)


def test_closing_ends_the_process(isolated: Isolated) -> None:
    child = call(isolated, "process_id")
    isolated.close()
    assert not _is_running(child)


def test_the_process_ends_with_its_caller_even_in_a_hang(tmp_path: Path) -> None:
    script = (
        "import sys, threading, time\n"
        "from annotate_server.imaging.isolation import Isolated\n"
        "isolated = Isolated(functions={'hang': 'planted_parsers:hang', 'id': 'planted_parsers:process_id'})\n"
        "print(isolated.call('id', 0, allowance_s=60, source='x'), flush=True)\n"
        "isolated.call('hang', 0, allowance_s=60, source='x')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        time.sleep(0.3)
        assert _is_running(child)
        caller.kill()
    deadline = time.monotonic() + 20
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(child)


def test_large_files_are_given_more_time(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"0")
    with large.open("wb") as file:
        file.truncate(400_000_000)
    assert allowance_s([small, tmp_path / "missing"]) < 9
    assert allowance_s([small, large]) > 100


def _is_running(process: object) -> bool:
    try:
        os.kill(int(str(process)), 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
