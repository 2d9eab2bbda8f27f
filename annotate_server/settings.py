"""All settings in one frozen table: default < TOML file < ANNOTATE_* < command line; read once, at the start."""

import os
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from annotate_server.domain.errors import InvalidSettings

PREFIX = "ANNOTATE_"
_NOT_SETTINGS = {"ANNOTATE_TEST_DATA", "ANNOTATE_KILLS"}
"""Variables of the test suite, which the program ignores."""
_ORIGIN = r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$|^https?://\[[0-9a-f:]+\](:[0-9]{1,5})?$"
"""How a browser names a website: in small letters, no path."""


def _default_workspace() -> Path:
    return Path(platformdirs.user_data_dir("annotate-server", appauthor=False))


def _default_environments() -> Path:
    return _default_workspace() / "environments"


class Settings(BaseSettings):
    """Every setting with its default, unit and meaning; this table feeds the documentation too."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", toml_file=None)

    workspace: Path = Field(
        default_factory=_default_workspace, description="Folder for weights, labels and what is computed from them."
    )
    apps: tuple[Path, ...] = Field((), description="More folders of apps; they come before the ones shipped.")
    environments: Path = Field(
        default_factory=_default_environments,
        description="Folder of the environments of backends that run in an interpreter of their own.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where models run: auto, cpu, cuda, cuda:0 … (auto takes a GPU where there is one).",
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads a model may use; 0 for one a core.")
    training_threads: int = Field(
        0, ge=0, le=1024, description="Threads a training may use; 0 for one on every second core."
    )
    training_hour: int = Field(
        2,
        ge=0,
        le=23,
        description="Hour of the day, by the server's clock, at which models are trained that are nightly.",
    )
    reader_memory_bytes: int = Field(
        8 << 30, ge=1 << 28, description="Address space, in bytes, of the process that parses files."
    )
    volume_cache_bytes: int = Field(
        32 << 30, ge=1 << 28, description="Disk, in bytes, for volumes that were read; made again when needed."
    )
    upload_bytes: int = Field(2 << 30, ge=1 << 20, description="Largest file, in bytes, that may be uploaded.")
    allowed_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = Field(
        (), description="Other websites whose viewers may ask this server, as scheme://host[:port]; none by default."
    )
    lease_s: float = Field(
        120.0,
        ge=1.0,
        le=86_400.0,
        description="Seconds without a sign of life after which a case is given free.",
    )
    rescan_s: float = Field(
        300.0, ge=1.0, description="Seconds between two looks at the studies for new and vanished files."
    )
    drain_s: float = Field(
        12.0, ge=0.0, le=600.0, description="Seconds that a draft in progress gets when the server is asked to stop."
    )
    most_waiting: int = Field(
        32, ge=1, le=10_000, description="Prompts that may wait in line; who comes then is told to come back."
    )
    archive_user: str | None = Field(None, min_length=1, description="Who the server is to a DICOM archive.")
    archive_password: SecretStr | None = Field(None, min_length=1, description="The password of that user.")
    archive_token: SecretStr | None = Field(
        None, min_length=1, description="Bearer token for a DICOM archive, in place of a user."
    )
    archive_certificates: Path | None = Field(
        None, description="Certificates (PEM) to trust a DICOM archive by; those of the system where none are named."
    )
    archive_timeout_s: float = Field(
        30.0, ge=0.1, le=600.0, description="Seconds that a DICOM archive may be silent before it counts as too slow."
    )
    archive_cache_bytes: int = Field(
        16 << 30, ge=1 << 20, description="Disk, in bytes, for instances of a DICOM archive; fetched again when needed."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the command line precedence over the environment, and that over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(config: Path | None = None, workspace: Path | None = None) -> Settings:
    """Return the settings; raises InvalidSettings that lists every unknown key and wrong value at once.

    `config` is a TOML file, by default `ANNOTATE_CONFIG` where that is set. `workspace` comes from the command line.
    """
    file = config or (Path(os.environ["ANNOTATE_CONFIG"]) if "ANNOTATE_CONFIG" in os.environ else None)
    if file is not None and not file.is_file():
        raise InvalidSettings("there is no such file", source=str(file))
    unknown = [f"{name}: there is no such setting" for name in _unknown_variables()]

    class FileSettings(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    given: dict[str, Any] = {} if workspace is None else {"workspace": workspace}
    try:
        settings = FileSettings(**given)
    except ValidationError as error:
        unknown += [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]
    except ValueError as error:
        unknown.append(f"{file}: it is not TOML: {error}")
    if unknown:
        raise InvalidSettings("; ".join(unknown), remedy="Correct them; `annotate doctor` lists all settings.")
    return settings


def _unknown_variables() -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {"ANNOTATE_CONFIG"} | _NOT_SETTINGS
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
