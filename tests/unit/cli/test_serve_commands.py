import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from annotate_server.api.serving import Binding
from annotate_server.cli.main import command_line
from annotate_server.domain.errors import InvalidSettings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), list(arguments))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANNOTATE_WORKSPACE", str(tmp_path / "workspace"))
    return tmp_path / "workspace"


def test_users_are_added_listed_and_removed() -> None:
    added = json.loads(run("users", "add", "anne", "--role", "reviewer", "--json").stdout)
    assert (added["name"], added["role"]) == ("anne", "reviewer")
    assert len(added["token"]) >= 32
    listed = run("users", "list", "--json").stdout
    assert [user["name"] for user in json.loads(listed)["users"]] == ["anne"]
    assert added["token"] not in listed
    assert run("users", "remove", "anne").exit_code == 0
    assert "only this machine gets in" in run("users", "list").stdout
    assert json.loads(run("users", "remove", "anne", "--json").stdout)["problem"]["type"] == "not-found"


def test_a_workspace_is_checked_and_copied(tmp_path: Path, workspace: Path) -> None:
    nothing = run("workspace", "check", "--json")
    assert (nothing.exit_code, json.loads(nothing.stdout)["problem"]["type"]) == (1, "not-found")
    run("users", "add", "anne")
    checked = run("workspace", "check", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["ok"]
    assert run("workspace", "backup", str(tmp_path / "copy"), "--json").exit_code == 0
    assert json.loads(run("users", "list", "--json", "--workspace", str(tmp_path / "copy")).stdout)["users"]
    again = run("workspace", "backup", str(tmp_path / "copy"), "--json")
    assert json.loads(again.stdout)["problem"]["type"] == "state-error"


@pytest.mark.parametrize(
    ("binding", "has_users", "said"),
    [
        (Binding("0.0.0.0"), False, "let everybody in"),  # noqa: S104
        (Binding("0.0.0.0"), True, "in the clear"),  # noqa: S104
        (Binding("example.org", behind_proxy=True), False, "let everybody in"),
        (Binding("127.0.0.1", behind_proxy=True), False, "let everybody in"),
        (Binding("::"), True, "in the clear"),
        (Binding(tls_cert=Path("cert.pem")), True, "both"),
        (Binding(tls_cert=Path("gone.pem"), tls_key=Path("gone.pem")), True, "no such file"),
    ],
)
def test_an_address_that_lets_strangers_in_is_refused(binding: Binding, has_users: bool, said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        binding.check(has_users=has_users)


@pytest.mark.parametrize("binding", [Binding(), Binding("localhost"), Binding("::1"), Binding("127.8.0.1")])
def test_this_machine_alone_needs_neither_users_nor_tls(binding: Binding) -> None:
    binding.check(has_users=False)


def test_a_port_that_is_taken_says_what_to_do() -> None:
    with Binding(port=0).bound() as taken, pytest.raises(InvalidSettings, match="--port 0"):
        Binding(port=taken.getsockname()[1]).bound()


def test_serving_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = run("serve", "--studies", str(tmp_path / "gone"), "--json")
    assert result.exit_code == 1
    assert "gone" in json.loads(result.stdout)["problem"]["detail"]


def test_strangers_are_refused_before_anything_starts() -> None:
    result = run("serve", "--host", "0.0.0.0", "--port", "0", "--json")  # noqa: S104
    assert result.exit_code == 2
    assert "annotate users add" in json.loads(result.stdout)["problem"]["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_first_line_is_the_address_and_a_signal_is_the_ordinary_end(kind: signal.Signals) -> None:
    command = [sys.executable, "-m", "annotate_server.cli.main", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["url"].startswith("http://127.0.0.1:")
        server.send_signal(kind)
        assert server.wait(30) == 0


def test_a_server_loads_nothing_that_only_other_commands_need() -> None:
    said = (
        "import sys; sys.argv = ['annotate', 'serve', '--help']\n"
        "import annotate_server.cli.main as main, annotate_server.bootstrap.server, annotate_server.api.serving\n"
        "try: main.main()\n"
        "except SystemExit: pass\n"
        "print({'torch', 'scipy', 'SimpleITK', 'numba', 'nibabel', 'highdicom'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()"), done.stdout


@pytest.mark.parametrize(
    ("studies", "settings", "said"),
    [
        ("http://user:secret@archive/rs", {}, "holds no password"),
        ("http://", {}, "no address of a DICOM archive"),
        ("http://archive/rs?x=1", {}, "neither ? nor #"),
        ("http://archive/rs", {"USER": "anne"}, "takes a password"),
        ("http://archive/rs", {"PASSWORD": "secret"}, "a password a user"),
        ("http://archive/rs", {"USER": "anne", "PASSWORD": "secret", "TOKEN": "secret"}, "not with both"),
        ("http://archive/rs", {"CERTIFICATES": "gone.pem"}, "holds no certificates"),
        ("no-such-folder", {}, "no such folder"),
    ],
)
def test_an_archive_that_cannot_be_asked_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, studies: str, settings: dict[str, str], said: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"ANNOTATE_ARCHIVE_{name}", value)
    refused = run("serve", "--studies", studies, "--port", "0", "--json")
    assert refused.exit_code != 0
    assert said in json.loads(refused.stdout)["problem"]["detail"]
    assert "secret" not in refused.output


def test_no_list_of_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATE_ARCHIVE_USER", "anne")
    monkeypatch.setenv("ANNOTATE_ARCHIVE_PASSWORD", "very-secret")
    listed = run("doctor", "--json")
    assert "setting archive_password" in listed.stdout
    assert "very-secret" not in listed.stdout
