"""The machinery under `config`: documented fields, conversion from YAML and text, range checks, helpful errors."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import os
import re
import reprlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Union

import yaml

from sync_r1.suggestions import did_you_mean, nearest

LARGEST = 2**63 - 1  # what seeds and counts may be: more does not fit a tensor
_NULL = ("", "null", "~")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def option(
    default: Any,
    doc: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with its documentation and its allowed range. `path`: it may name a place on this machine, in
    which a leading ~ is the home folder.
    """
    limits = {"doc": doc, "ge": ge, "gt": gt, "le": le, "path": path}
    return dataclasses.field(default=default, metadata=limits)


class _GivenTwice(ValueError):
    """A key that a mapping holds twice. YAML would silently take the last one."""


class _Plain(yaml.SafeLoader):
    """Without aliases: a few of them can stand for billions of values, or for a list that holds itself.

    And without keys given twice: the first of two sections of the same name would be lost.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not allowed; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for node_of_key in keys:
            key, line = self.construct_object(node_of_key), node_of_key.start_mark.line + 1
            if key in lines:
                raise _GivenTwice(
                    f"{shown(key)} is given on line {lines[key]} and again on line {line}; write it once, with all "
                    "that belongs to it"
                )
            lines[key] = line
        return super().construct_mapping(node, deep)


class _Texts(_Plain):
    """Every plain value stays the text that was written: 007, 1e5, yes and null mean what the option says they mean."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}


def parse_yaml(text: str, where: str, *, texts: bool = False) -> Any:
    """The value of a YAML text. ValueError that begins with `where` for all that goes wrong.

    texts: leave numbers, true, null and the like as the texts they were written as, for `merge` to convert by the kind
        of the option.
    """
    try:
        return yaml.load(text, _Texts if texts else _Plain)
    except _GivenTwice as error:
        raise ValueError(f"{where}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{where} cannot be read: lists or mappings are nested too deeply") from error
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # dates and numbers that Python cannot hold are no YAMLError
        advice = "quote it if it is a text with : # * & [ or {"
        if "'\\t'" in str(error):
            advice = "indent with spaces, as YAML takes no tabs there"
        raise ValueError(f"{where} cannot be read as YAML ({str(error)[:300]}); {advice}") from error


class _Shown(reprlib.Repr):
    """Bounded whatever the value is: nested lists may stand for billions of entries, a number for more digits than
    Python prints."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 60, 60, 60

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() < 200:
            return repr(x)
        return f"a number of {x.bit_length()} bits"


def shown(value: object) -> str:
    """A value from outside as an error message shows it: like `repr`, but never longer than a line."""
    text = _Shown().repr(value)
    if len(text) <= 100:
        return text
    return f"{text[:97]}..."


def check_unicode(text: str, what: str) -> str:
    """The text. ValueError when it holds bytes that were no text in the terminal's encoding: no file or tokenizer takes
    them.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:  # an argument in Latin-1 reaches Python as halves of characters
        raise ValueError(
            f"{what} holds bytes that are no UTF-8 text, after {text[: error.start][-40:]!r}; "
            "set the terminal to UTF-8, or write the letters without accents"
        ) from error
    return text


def fail(name: str, value: object, limit: str, fix: str) -> typing.NoReturn:
    raise ValueError(f"{name} is {shown(value)}; {limit}; {fix}")


@functools.cache
def types_of(section: type) -> dict[str, Any]:
    """Option → its type. Finding the types takes far longer than reading all values."""
    return typing.get_type_hints(section)


def check_ranges(section: Any, where: str) -> None:
    hints = types_of(section.__class__)
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{where}{field.name}"
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{name}.")
            continue
        value = _convert(value, hints[field.name], name)
        if field.metadata.get("path"):
            value = os.path.expanduser(value)
        setattr(section, field.name, value)
        if isinstance(value, float) and not math.isfinite(value):
            fail(name, value, "it must be finite", f"set {name} to a number")
        for key, sign, broken in (
            ("ge", "at least", operator.lt),
            ("gt", "above", operator.le),
            ("le", "at most", operator.gt),
        ):
            limit = field.metadata.get(key)
            if limit is not None and value is not None and broken(value, limit):
                fail(name, value, f"it must be {sign} {limit}", f"set {name} to {_nearest(key, limit)}")


def _nearest(key: str, limit: float) -> str:
    if key in ("ge", "le"):
        return f"{limit}"
    return f"a number above {limit}"


def _convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as `kind`, or a ValueError that names the option."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            names = list(map(str, allowed))
            fail(name, value, f"it must be one of {', '.join(names)}", f"use {nearest(value, names)}")
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, typing.get_args(kind), name)
    if origin is list:
        if not isinstance(value, (list, tuple)):
            fail(name, value, "it must be a list", f"write {name}=[{value}]")
        return [_convert(item, typing.get_args(kind)[0], f"{name}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, Mapping):
            fail(name, value, "it must be a mapping", f"write {name}.<key>=<value>")
        return {str(key): _convert(item, typing.get_args(kind)[1], f"{name}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        if isinstance(value, Mapping):
            return merge(typing.cast(type, kind)(), value, f"{name}.")
        return value
    return _convert_plain(value, kind, name)


def _convert_union(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if type(None) in kinds and (value is None or (isinstance(value, str) and value.strip().lower() in _NULL)):
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds:
        if (typing.get_origin(kind) is dict) == isinstance(value, Mapping):
            return _convert(value, kind, name)
    return _convert(value, kinds[0], name)


def _convert_plain(value: Any, kind: Any, name: str) -> Any:
    if kind is bool:
        if isinstance(value, str):
            value = _BOOLEANS.get(value.strip().lower(), value)
        if not isinstance(value, bool):
            fail(name, value, "it must be true or false", f"write {name}=true or {name}=false")
        return value
    if kind is str:
        if isinstance(value, (bool, Mapping, list)):
            fail(name, value, "it must be text", f"put {name} in quotes")
        if value is None:
            return ""
        return str(value)
    if isinstance(value, bool):
        fail(name, value, "it must be a number", f"write {name}=1")
    number = _exact(value, name)
    if kind is not int:
        return float(number)
    if abs(number) > LARGEST:
        fail(name, value, f"it must lie between -{LARGEST} and {LARGEST}", f"set {name} to a smaller number")
    if number != int(number):
        fail(name, value, "it must be a whole number", f"set {name} to {round(number)}")
    return int(number)


def _exact(value: Any, name: str) -> Decimal:
    """A number, or a text that is one, to the last digit."""
    if isinstance(value, str):
        text = re.sub(r"^([+-]?)\.(inf|nan)$", r"\1\2", value.strip().lower())
    else:
        text = value
    try:
        number = Decimal(text)
    except (TypeError, ValueError, InvalidOperation):
        fail(name, value, "it must be a number", f"write {name}=1")
    if not number.is_finite() or abs(number) > sys.float_info.max:
        fail(name, value, "it must be finite", f"set {name} to a number")
    return number


def merge(section: Any, values: Mapping[str, Any], where: str = "", *, known: Sequence[str] = ()) -> Any:
    """Set the fields of `section` named in `values`, section by section.

    Args:
        known: every dotted name there is, so that an option given in the wrong section can be pointed to its own.
    Raises:
        ValueError: an unknown option (with near matches) or a value of the wrong kind.
    """
    hints = types_of(section.__class__)
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in hints:
            elsewhere = [option for option in known if option.endswith(f".{key}")]
            hint = did_you_mean(key, hints, prefix=where, elsewhere=elsewhere)
            raise ValueError(f"unknown option {shown(name)}; {hint}")
        current = getattr(section, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                fail(
                    name,
                    value,
                    "it is a section, not a value",
                    f"set one of its options, e.g. {name}.{dataclasses.fields(current)[0].name}",
                )
            merge(current, value, f"{name}.", known=known)
        else:
            setattr(section, key, _convert(value, hints[key], name))
    return section


def kind_of(section: type, keys: Sequence[str]) -> Any:
    """The type of the option `keys` lead to below a section; None where there is no such option."""
    kind: Any = section
    for key in keys:
        if typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            kind = types_of(kind).get(key)
        else:
            return None
    return kind


def describe(section: Any, where: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted name, value, documentation) of every option."""
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{where}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from describe(value, f"{name}.")
        else:
            yield name, value, field.metadata["doc"]
