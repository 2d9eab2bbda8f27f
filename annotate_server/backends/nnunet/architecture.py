"""Which network a plan describes: names are compared with a list, nothing is imported by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotate_server.backends.nnunet.facts import Fact
from annotate_server.domain.errors import InvalidApp

Sides = tuple[int, ...]

_CLASSES = {
    "dynamic_network_architectures.architectures.unet.PlainConvUNet": False,
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet": True,
    "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet": True,
    "PlainConvUNet": False,
    "ResidualEncoderUNet": True,
}
"""The networks, by every name that plans give them, and whether their encoder is residual."""
_CONVOLUTIONS = {f"torch.nn.{module}Conv{sides}d": sides for module in ("modules.conv.", "") for sides in (2, 3)}
_NORMS = {
    f"torch.nn.{module}{kind}Norm{sides}d": kind.lower()
    for kind, own in (("Instance", "modules.instancenorm."), ("Batch", "modules.batchnorm."))
    for module in (own, "")
    for sides in (2, 3)
}
_ACTIVATIONS = {
    f"torch.nn.{module}{kind}": kind
    for kind in ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU")
    for module in ("modules.activation.", "")
}
_COMMON = {
    *("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage_decoder", "conv_bias"),
    *("norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs", "deep_supervision"),
}
_MOST_STAGES, _MOST_LAYERS, _MOST_FEATURES, _LARGEST_SIDE = 16, 64, 8192, 32
"""Beyond every network that was ever published, and small enough to be built."""


@dataclass(frozen=True)
class Norm:
    """A normalisation layer: `kind` is instance or batch."""

    kind: str
    eps: float = 1e-5
    is_affine: bool = False


@dataclass(frozen=True)
class Activation:
    """A nonlinearity by torch's name; `slope` is that of LeakyReLU."""

    kind: str
    slope: float = 0.01


@dataclass(frozen=True)
class NetworkPlan:
    """A U-Net of nnU-Net: one entry a stage, finest first; the decoder's from the coarsest up.

    `kernels` and `strides` have two or three sides. `convolutions` are residual blocks where `is_residual`.
    `activates_first` puts the nonlinearity before the normalisation. Dropout does nothing in a prediction.
    """

    is_residual: bool
    dimensions: int
    features: tuple[int, ...]
    kernels: tuple[Sides, ...]
    strides: tuple[Sides, ...]
    convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    has_bias: bool
    norm: Norm | None
    activation: Activation | None
    stem_features: int
    activates_first: bool = False


def network_plan(configuration: Fact, dimensions: int) -> NetworkPlan:
    """Return the network of a configuration, of either form of plans; InvalidApp names what cannot be run."""
    if not configuration.has("architecture"):
        return _old(configuration, dimensions)
    architecture = configuration.at("architecture")
    is_residual = _CLASSES[architecture.at("network_class_name").one_of(*_CLASSES)]
    words = architecture.at("arch_kwargs")
    own = {"n_blocks_per_stage", "stem_channels"} if is_residual else {"n_conv_per_stage", "nonlin_first"}
    unknown = {key for key, fact in words.members() if fact.value is not None} - _COMMON - own
    if unknown:
        raise InvalidApp(f"its network has the unknown settings {', '.join(sorted(unknown))}", source=words.place)
    if _CONVOLUTIONS[words.at("conv_op").one_of(*_CONVOLUTIONS)] != dimensions:
        raise InvalidApp(f"its convolutions do not fit a patch of {dimensions} sides", source=words.place)
    stages = words.at("n_stages").between(2, _MOST_STAGES)
    features = _whole(words.at("features_per_stage"), stages, _MOST_FEATURES)
    convolutions = words.at("n_blocks_per_stage" if is_residual else "n_conv_per_stage")
    stem = words.at("stem_channels").between(1, _MOST_FEATURES) if words.has("stem_channels") else features[0]
    return NetworkPlan(
        is_residual=is_residual,
        dimensions=dimensions,
        features=features,
        kernels=_sides(words.at("kernel_sizes"), stages, dimensions),
        strides=_sides(words.at("strides"), stages, dimensions),
        convolutions=_whole(convolutions, stages, _MOST_LAYERS),
        decoder_convolutions=_whole(words.at("n_conv_per_stage_decoder"), stages - 1, _MOST_LAYERS),
        has_bias=words.at("conv_bias").of(bool) if words.has("conv_bias") else False,
        norm=_norm(words) if words.has("norm_op") else None,
        activation=_activation(words) if words.has("nonlin") else None,
        stem_features=stem,
        activates_first=words.at("nonlin_first").of(bool) if words.has("nonlin_first") else False,
    )


def _old(configuration: Fact, dimensions: int) -> NetworkPlan:
    """Return the network of plans before nnU-Net 2.4, which name only what differed then."""
    is_residual = _CLASSES[configuration.at("UNet_class_name").one_of("PlainConvUNet", "ResidualEncoderUNet")]
    encoder = configuration.at("n_conv_per_stage_encoder")
    stages = len(encoder.each())
    if not 2 <= stages <= _MOST_STAGES:
        raise InvalidApp(f"a network of {stages} stages cannot be run here", source=encoder.place)
    first = configuration.at("UNet_base_num_features").between(1, _MOST_FEATURES)
    most = configuration.at("unet_max_num_features").between(1, _MOST_FEATURES)
    features = tuple(min(first * 2**stage, most) for stage in range(stages))
    return NetworkPlan(
        is_residual=is_residual,
        dimensions=dimensions,
        features=features,
        kernels=_sides(configuration.at("conv_kernel_sizes"), stages, dimensions),
        strides=_sides(configuration.at("pool_op_kernel_sizes"), stages, dimensions),
        convolutions=_whole(encoder, stages, _MOST_LAYERS),
        decoder_convolutions=_whole(configuration.at("n_conv_per_stage_decoder"), stages - 1, _MOST_LAYERS),
        has_bias=True,
        norm=Norm("instance", is_affine=True),
        activation=Activation("LeakyReLU"),
        stem_features=features[0],
    )


def _norm(words: Fact) -> Norm:
    kind = _NORMS[words.at("norm_op").one_of(*_NORMS)]
    # BatchNorm is affine unless it is told not to be, InstanceNorm the other way round.
    settings = _settings(words, "norm_op_kwargs", {"eps": 1e-5, "affine": kind == "batch"})
    return Norm(kind, settings["eps"], bool(settings["affine"]))


def _activation(words: Fact) -> Activation:
    kind = _ACTIVATIONS[words.at("nonlin").one_of(*_ACTIVATIONS)]
    usual = {"negative_slope": 0.01} if kind == "LeakyReLU" else {}
    return Activation(kind, _settings(words, "nonlin_kwargs", {**usual, "inplace": True}).get("negative_slope", 0.01))


def _settings(words: Fact, key: str, usual: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers and truth values that a layer is made with; every one must be known here."""
    found = dict(usual)
    for name, fact in words.at(key).members() if words.has(key) else ():
        if name not in usual:
            raise InvalidApp(f"the setting {name!r} cannot be run here", source=fact.place)
        found[name] = float(fact.of(bool)) if isinstance(fact.value, bool) else fact.number()
    return found


def _whole(fact: Fact, count: int, most: int) -> tuple[int, ...]:
    """Return one whole number a stage, whether the plan says each or one for all."""
    if isinstance(fact.value, int):
        return (fact.between(1, most),) * count
    _check_count(fact.each(), count, fact)
    return tuple(each.between(1, most) for each in fact.each())


def _sides(fact: Fact, stages: int, dimensions: int) -> tuple[Sides, ...]:
    """Return the sides of each stage; one number stands for all of them."""
    if isinstance(fact.value, int):
        return ((fact.between(1, _LARGEST_SIDE),) * dimensions,) * stages
    _check_count(fact.each(), stages, fact)
    return tuple(_whole(each, dimensions, _LARGEST_SIDE) for each in fact.each())


def _check_count(found: Sequence[Fact], wanted: int, fact: Fact) -> None:
    if len(found) != wanted:
        raise InvalidApp(f"it has {len(found)} entries where {wanted} are needed", source=fact.place)
