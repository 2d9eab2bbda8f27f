"""What the expressions of a bundle's configuration say, as far as they are harmless idioms that bundles really use.

Nothing is ever evaluated by Python. An expression is parsed, its tree is matched against a closed list of forms, and
each form has a meaning of ours: a sum of texts, a choice between two values, the name of a number type. Whatever else
it holds is refused.
"""

import ast
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

from annotate_server.domain.errors import InvalidApp

Value = object
"""Plain data: None, bool, int, float, str, list, dict."""

_REFERENCE = re.compile(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)")
_IMPORT = re.compile(r"\$(?:import [\w.]+(?: as \w+)?|from [\w.]+ import [\w, ]+)")
_DUNDER = re.compile(r"__\w+__|\b(?:eval|exec|getattr|os\.system|os\.popen)\s*\(|\bsubprocess\b")
_NUMBER_TYPES = frozenset(
    {"float", "float16", "float32", "float64", "half", "double", "bfloat16"}
    | {"int", "int8", "int16", "int32", "int64", "uint8", "uint16", "long", "short", "bool"}
)
_CONSTANTS: Mapping[str, Value] = {
    "monai.utils.CommonKeys.IMAGE": "image",
    "monai.utils.CommonKeys.LABEL": "label",
    "monai.utils.CommonKeys.PRED": "pred",
    "monai.utils.BlendMode.CONSTANT": "constant",
    "monai.utils.BlendMode.GAUSSIAN": "gaussian",
}
_NETWORKS = "monai.networks.nets."
_LONGEST = 4096
_UNKNOWN = object()


def is_expression(value: object) -> bool:
    """Say whether a value of the configuration is an expression."""
    return isinstance(value, str) and value.startswith("$")


def is_import(text: str) -> bool:
    """Say whether an entry of `imports` is a plain import line, which is skipped: nothing is imported."""
    return _IMPORT.fullmatch(text.strip()) is not None


def is_hostile(text: str) -> bool:
    """Say whether an expression reaches for what no description of a network needs."""
    return _DUNDER.search(text) is not None


def meaning(text: str, key: str, look_up: Callable[[str], Value]) -> Value:
    """Return what an expression (with its `$`) says; `look_up` gives the value of a reference by its id.

    Raises InvalidApp that names the key where it is none of the known forms.
    """
    references: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        name = f"reference_{len(references)}"
        references[name] = match.group(1)
        return name

    source = _REFERENCE.sub(named, text[1:].strip())
    if len(source) > _LONGEST:
        _refuse(key, text)
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        _refuse(key, text)
    reader = _Reader(key, text, {name: partial(look_up, own) for name, own in references.items()})
    try:
        return reader.value(tree)
    except RecursionError:
        _refuse(key, text)


def _refuse(key: str, text: str) -> NoReturn:
    shown = text if len(text) <= 120 else f"{text[:117]}..."
    raise InvalidApp(
        f"{key!r} holds the expression {shown!r}, which is none of those that are understood; none is ever run",
        remedy="Write the value itself into the bundle's configuration.",
    )


class _Reader:
    """Gives each known form its meaning."""

    def __init__(self, key: str, text: str, references: Mapping[str, Callable[[], Value]]) -> None:
        self._key = key
        self._text = text
        self._references = references

    def value(self, node: ast.expr) -> Value:
        """Return the meaning of one part of the tree."""
        found: Value = _UNKNOWN
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as constant):
                found = constant
            case ast.Name(id=name) if name in self._references:
                found = self._references[name]()
            case ast.List(elts=items) | ast.Tuple(elts=items):
                found = [self.value(item) for item in items]
            case ast.UnaryOp(op=operation, operand=operand):
                found = self._turned(operation, self.value(operand))
            case ast.BinOp(left=left, op=operation, right=right):
                found = self._joined(self.value(left), operation, self.value(right))
            case ast.IfExp(test=test, body=first, orelse=second):
                found = self._chosen(test, first, second)
            case ast.Call(func=function, args=arguments, keywords=named):
                found = self._called(function, arguments, named)
            case ast.Attribute():
                found = self._constant(_dotted(node))
        if found is _UNKNOWN:
            _refuse(self._key, self._text)
        return found

    def _turned(self, operation: ast.unaryop, value: Value) -> Value:
        if isinstance(operation, ast.USub) and isinstance(value, int | float):
            return -value
        if isinstance(operation, ast.Not) and isinstance(value, bool):
            return not value
        _refuse(self._key, self._text)

    def _joined(self, left: Value, operation: ast.operator, right: Value) -> Value:
        if isinstance(operation, ast.Add):
            if isinstance(left, str) and isinstance(right, str) and len(left) + len(right) <= _LONGEST:
                return left + right
            if isinstance(left, list) and isinstance(right, list) and len(left) + len(right) <= _LONGEST:
                return [*left, *right]
            if isinstance(left, int | float) and isinstance(right, int | float):
                return left + right
        _refuse(self._key, self._text)

    def _chosen(self, test: ast.expr, first: ast.expr, second: ast.expr) -> Value:
        """Return one of two values where the choice is written down as true or false."""
        chosen = self.value(test)
        if not isinstance(chosen, bool):
            _refuse(self._key, self._text)
        return self.value(first if chosen else second)

    def _called(self, function: ast.expr, arguments: list[ast.expr], named: list[ast.keyword]) -> Value:
        name = _dotted(function)
        if name == "torch.device" and len(arguments) == 1 and not named:
            return "device"
        if isinstance(function, ast.Attribute) and function.attr == "to" and len(arguments) == 1 and not named:
            return self.value(function.value)
        if name == "copy.deepcopy" and len(arguments) == 1 and not named:
            return self.value(arguments[0])
        if name == "os.path.join" and arguments and not named:
            return self._path([self.value(argument) for argument in arguments])
        if name.startswith(_NETWORKS) and not arguments and all(word.arg for word in named):
            return {"_target_": name, **{str(word.arg): self.value(word.value) for word in named}}
        if name == "len" and len(arguments) == 1 and not named:
            counted = self.value(arguments[0])
            if isinstance(counted, list | dict):
                return len(counted)
        _refuse(self._key, self._text)

    def _path(self, parts: list[Value]) -> str:
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) != len(parts):
            _refuse(self._key, self._text)
        return "/".join(texts)

    def _constant(self, name: str) -> Value:
        module, _, own = name.rpartition(".")
        if module in ("torch", "numpy", "np") and own in _NUMBER_TYPES:
            return own
        if name not in _CONSTANTS:
            _refuse(self._key, self._text)
        return _CONSTANTS[name]


def _dotted(node: ast.expr) -> str:
    """Return `a.b.c` of names and attributes; nothing for another form."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""
