"""Code of ours in another interpreter: what crosses, what does not, and how each way of failing is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_environment import KIND, toy_environment

from annotate_server.backends.environments import entry
from annotate_server.backends.environments.environment import (
    READY_MARK,
    Environment,
    environments_folder,
    use_folder,
)
from annotate_server.backends.environments.guest import Guest, Patience
from annotate_server.domain.errors import (
    BackendUnavailable,
    Cancelled,
    InvalidPrompt,
    PredictionFailed,
    WeightsInvalid,
)
from annotate_server.domain.ports import Control

MODULE = "toy_desk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("environments")
    toy_environment(place)
    return place


@pytest.fixture(autouse=True)
def place(folder: Path) -> Iterator[None]:
    before = environments_folder()
    use_folder(folder)
    yield
    use_folder(before)


@pytest.fixture(scope="module")
def guest(folder: Path) -> Iterator[Guest]:
    use_folder(folder)
    started = Guest.start(Environment.named(KIND), MODULE, {}, Patience(stop_s=1.0))
    yield started
    started.close()


def calls(guest: Guest) -> int:
    """Return how many calls the process has answered, this one included."""
    count = guest.call("double", {}, {}, Control()).words["calls"]
    assert isinstance(count, int)
    return count


def test_words_and_voxels_cross_both_ways_whatever_a_library_prints(guest: Guest) -> None:
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    reports: list[tuple[float, str]] = []
    control = Control(report=lambda part, text: reports.append((part, text)))
    before = calls(guest)
    answer = guest.call("double", {"list": [1, "two", None], "table": {"a": 0.5}}, {"v": volume[:, ::-1]}, control)
    assert answer.words == {"calls": before + 1, "list": [1, "two", None], "table": {"a": 0.5}}
    np.testing.assert_array_equal(answer.arrays["v"], 2 * volume[:, ::-1])
    assert reports == [(0.5, "Doubling")]


def test_voxels_arrive_read_only_and_lists_stay_lists(guest: Guest) -> None:
    answer = guest.call("writable", {"x": [1]}, {"volume": np.ones((2, 3, 4))}, Control())
    assert answer.words == {"writable": False, "words": "{'x': [1]}"}
    assert not answer.arrays["count"].flags.writeable


def test_the_guest_sees_none_of_our_packages_and_none_of_our_variables(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("ANNOTATE_ARCHIVE_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    guest = Guest.start(Environment.named(KIND), MODULE, {})
    words = guest.call("surroundings", {}, {}, Control()).words
    guest.close()
    assert words["found"] == []
    assert words["package"] is None, "our own package's start must not run there"
    assert str(words["executable"]).startswith(str(folder))
    variables = words["variables"]
    assert isinstance(variables, dict)
    assert not [name for name in variables if name.startswith(("ANNOTATE_", "PYTHON"))]
    assert variables["OMP_NUM_THREADS"] == "3"


def test_an_error_of_ours_arrives_as_what_it_is(guest: Guest) -> None:
    before = calls(guest)
    with pytest.raises(InvalidPrompt, match=r"toy: the point lies outside\. Click elsewhere\."):
        guest.call("refuse", {}, {}, Control())
    assert calls(guest) == before + 2, "it goes on answering"


@pytest.mark.parametrize(
    ("verb", "said"),
    [("throw", "KeyError: 'no such layer'"), ("odd", "TypeError"), ("leave", "SystemExit: not in the mood")],
)
def test_any_other_error_is_a_failed_prediction_that_says_which(guest: Guest, verb: str, said: str) -> None:
    with pytest.raises(PredictionFailed, match=said):
        guest.call(verb, {}, {}, Control())
    assert guest.is_alive


@pytest.mark.parametrize(("verb", "how"), [("end", r"exit code 7.*out of luck"), ("killed", "SIGKILL")])
def test_a_guest_that_died_says_how_and_is_started_again(guest: Guest, verb: str, how: str) -> None:
    calls(guest)
    before = guest.starts
    with pytest.raises(PredictionFailed, match=how):
        guest.call(verb, {}, {}, Control())
    assert calls(guest) == 1
    assert guest.starts == before + 1


def test_a_guest_that_is_told_to_stop_stops_and_stays(guest: Guest) -> None:
    before, asked = calls(guest), list[int]()
    with pytest.raises(Cancelled):
        guest.call("patient", {}, {}, Control(is_cancelled=lambda: asked.append(1) or len(asked) > 3))
    assert calls(guest) == before + 2


def test_a_guest_that_does_not_stop_is_ended(guest: Guest) -> None:
    asked: list[int] = []
    with pytest.raises(Cancelled):
        guest.call("deaf", {}, {}, Control(is_cancelled=lambda: asked.append(1) or len(asked) > 2))
    assert not guest.is_alive


def test_a_guest_without_a_sign_of_life_is_ended() -> None:
    guest = Guest.start(Environment.named(KIND), MODULE, {}, Patience(silence_s=0.3))
    with pytest.raises(PredictionFailed, match="no sign of life"):
        guest.call("deaf", {}, {}, Control())
    assert not guest.is_alive


def test_closing_ends_what_the_guest_has_started(guest: Guest) -> None:
    child = guest.call("parent", {}, {}, Control()).words["child"]
    assert isinstance(child, int)
    guest.close()
    assert _ends(child)


def test_a_guest_ends_with_the_process_that_started_it(folder: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from annotate_server.backends.environments.environment import Environment, use_folder\n"
        "from annotate_server.backends.environments.guest import Guest\n"
        "from annotate_server.domain.ports import Control\n"
        "use_folder(Path(sys.argv[1]))\n"
        "words = Guest.start(Environment.named('toy'), 'toy_desk', {}).call('parent', {}, {}, Control()).words\n"
        "print(words['guest'], words['child'], flush=True)\n"
        "time.sleep(60)\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert host.stdout is not None
    with host.stdout:
        guest, child = (int(number) for number in host.stdout.readline().split())
    host.send_signal(signal.SIGKILL)
    host.wait()
    assert _ends(guest)
    assert _ends(child)


def test_a_library_that_is_missing_over_there_makes_the_backend_unavailable() -> None:
    with pytest.raises(BackendUnavailable, match=r"No module named 'torch'.*annotate models env toy --again"):
        Guest.start(Environment.named(KIND), MODULE, {"broken": True})
    with pytest.raises(BackendUnavailable, match="no_such_module"):
        Guest.start(Environment.named(KIND), "no_such_module", {})


def test_what_the_module_refuses_at_its_start_arrives_as_what_it_is() -> None:
    with pytest.raises(WeightsInvalid, match=r"^model\.pt: the weights are another network's\.$"):
        Guest.start(Environment.named(KIND), MODULE, {"invalid": True})


def test_a_guest_that_does_not_start_in_time_is_given_up() -> None:
    with pytest.raises(BackendUnavailable, match="did not start within"):
        Guest.start(Environment.named(KIND), MODULE, {"slow": True}, Patience(start_s=0.8))


def test_a_guest_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotate_server.backends.environments.guest.PROTOCOL", 99)
    with pytest.raises(BackendUnavailable, match="another version"):
        Guest.start(Environment.named(KIND), MODULE, {})


def test_an_environment_without_numpy_says_so(tmp_path: Path) -> None:
    toy_environment(tmp_path, with_numpy=False)
    use_folder(tmp_path)
    with pytest.raises(BackendUnavailable, match="numpy cannot be imported"):
        Guest.start(Environment.named(KIND), MODULE, {})


def test_an_interpreter_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = Path(entry.__file__).read_text().replace("_LEAST = (3, 11)", "_LEAST = (3, 99)")
    newer = tmp_path / "entry.py"
    newer.write_text(text)
    monkeypatch.setattr(entry, "__file__", str(newer))
    with pytest.raises(BackendUnavailable, match=r"too old: 3\.99 or a newer one is needed"):
        Guest.start(Environment.named(KIND), MODULE, {})


def test_an_environment_that_is_missing_or_unfinished_names_the_command(folder: Path, tmp_path: Path) -> None:
    use_folder(tmp_path)
    with pytest.raises(BackendUnavailable, match=r"has not been made yet.*Run: annotate models env monailabel"):
        Environment.named("monailabel")
    (tmp_path / KIND).symlink_to(folder / KIND)
    Environment.named(KIND)
    (tmp_path / "half" / "bin").mkdir(parents=True)
    (tmp_path / "half" / "bin" / "python").symlink_to(sys.executable)
    assert not (tmp_path / "half" / READY_MARK).exists()
    with pytest.raises(BackendUnavailable, match="is not finished"):
        Environment.named("half")
    with pytest.raises(BackendUnavailable, match="no name"):
        Environment.named("../half")


def _ends(process: int) -> bool:
    """Say whether a process is gone, or soon is."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{process}/stat")
        if status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
