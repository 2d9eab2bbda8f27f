"""What each kind of environment is made of: a table, nothing else."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from annotate_server.domain.errors import NotFound

LEAST_PYTHON = (3, 11)
"""`annotate_server.domain` runs over there too."""


@dataclass(frozen=True)
class PipStep:
    """One run of pip; `alone` leaves out what the packages themselves ask for."""

    requirements: tuple[str, ...]
    alone: bool = False


@dataclass(frozen=True)
class EnvironmentRecipe:
    """How an environment is made.

    `purpose` completes "for …". `steps` run one after the other, then `stand_ins` are written: files by their path
    among the installed packages, each only where its package is not installed. `modules` must be importable at the end.
    `gigabytes` is what it takes on the disk with torch for processors.
    """

    kind: str
    purpose: str
    steps: tuple[PipStep, ...]
    modules: tuple[str, ...]
    gigabytes: float
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return what tells whether an environment was made of this recipe."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


_TORCH = "torch==2.13.0"
_DRAWING = '''"""A stand-in: MONAI Label imports two names from torchvision, for pictures that nobody here asks for."""


def make_grid(*arguments, **options):
    raise NotImplementedError("torchvision is not installed in this environment")


save_image = make_grid
'''

MONAILABEL = EnvironmentRecipe(
    kind="monailabel",
    purpose="MONAI Label apps",
    steps=(
        PipStep(
            (
                _TORCH,
                "monai>=1.5,<1.6",
                "numpy<2.5",
                "pydicom>=2.4,<3",
                "dicomweb-client[gcp]>=0.59,<0.60",
                "pynetdicom>=2.0,<3",
                *("nibabel", "SimpleITK", "itk-core", "itk-io", "pynrrd"),
                *("scikit-image", "scipy", "shapely", "pillow", "pydicom-seg", "numpymaxflow", "einops"),
                *("pytorch-ignite", "tensorboard", "psutil", "tqdm", "schedule", "timeloop", "filelock", "watchdog"),
                *("expiringdict", "expiring_dict", "cachetools", "pydantic", "pydantic-settings", "python-dotenv"),
                *("uvicorn", "fastapi", "python-multipart", "httpx", "requests", "requests-toolbelt", "urllib3"),
                *("google-auth", "girder-client", "passlib", "pyjwt", "bcrypt", "pyyaml"),
            )
        ),
        PipStep(("monailabel==0.8.5",), alone=True),  # it asks for mlflow, openslide, sam2 and another torch as well
    ),
    modules=("monailabel", "monai", "torch", "torchvision.utils"),
    gigabytes=2.3,
    stand_ins=MappingProxyType({"torchvision/__init__.py": "", "torchvision/utils.py": _DRAWING}),
)

NNINTERACTIVE = EnvironmentRecipe(
    kind="nninteractive",
    purpose="nnInteractive, which answers prompts about any structure",
    steps=(PipStep((_TORCH, "nnInteractive==2.6.0")),),
    modules=("nnInteractive.inference.inference_session",),
    gigabytes=1.9,
)

RECIPES: Mapping[str, EnvironmentRecipe] = MappingProxyType({each.kind: each for each in (MONAILABEL, NNINTERACTIVE)})


def recipe_of(kind: str) -> EnvironmentRecipe:
    """Return the recipe of a kind; NotFound lists those that there are."""
    if kind not in RECIPES:
        raise NotFound(f"there is no environment {kind!r}", remedy=f"Choose one of: {', '.join(sorted(RECIPES))}.")
    return RECIPES[kind]
