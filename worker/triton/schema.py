"""Triton's own schema of a model's configuration, as the package `tritonclient` carries it, and its two notations.

Only the schema's module is loaded: the package around it needs gRPC, which Fleet does not.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fleet.errors import ModelError
from fleet.plain import check_plain

CONFIG_NAME = "config.pbtxt"
_MODULE = Path("grpc") / "model_config_pb2.py"
_WHOLE = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
#: No value that a file can mean: shows whether it says one at all, which the schema itself does not.
_SILENT = -(2**31)
_POSITION = re.compile(r"^(\d+):(\d+) : (?:'.*': )?(.*)$", re.DOTALL)
_UNKNOWN = re.compile(r'Message type "inference\.(\w+)" has no field named "([^"]+)"(?: at "([^"]*)")?')


@cache
def _config_type() -> type[Message]:
    found = importlib.util.find_spec("tritonclient")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / _MODULE
        spec = importlib.util.spec_from_file_location("fleet_triton_model_config", path)
        if path.is_file() and spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            config_type: type[Message] = module.ModelConfig
            return config_type
    raise ModelError(
        "Triton's schema of model configurations is missing: install the package tritonclient, "
        "as the worker's requirements do",
        code="schema-missing",
    )


def parse(text: str) -> tuple[Any, bool]:
    """The configuration, and whether it says `max_batch_size` itself, be it 0.

    Raises ModelError `config-invalid` with line and column for unknown fields and values that do not fit.
    """
    config_type = _config_type()
    try:
        config = text_format.Parse(text, config_type())
    except text_format.ParseError as error:
        raise ModelError(_placed(error), code="config-invalid", line=error.GetLine()) from error
    _check_plain(config)
    return config, text_format.Merge(text, config_type(max_batch_size=_SILENT)).max_batch_size != _SILENT  # type: ignore[attr-defined]


def _placed(error: text_format.ParseError) -> str:
    placed = _POSITION.match(str(error))
    if placed is None:
        return str(error)
    line, column, said = placed.groups()
    unknown = _UNKNOWN.search(said)
    if unknown is not None:
        message, name, _ = unknown.groups()
        said = f"there is no field {name!r} in {message}"
    return f"line {line}, column {column}: {said.strip().rstrip('.')}"


def from_json(config: dict[str, Any]) -> Any:
    """Field names as in config.pbtxt or in camel case; 64-bit integers as numbers or text. Raises as `parse`."""
    try:
        message = json_format.ParseDict(config, _config_type()())
    except json_format.ParseError as error:
        said = str(error).splitlines()[0]
        raise ModelError(f"the configuration cannot be read: {said}", code="config-invalid") from error
    _check_plain(message)
    return message


def _check_plain(config: Message) -> None:
    try:
        check_plain(written(config))
    except ValueError as error:
        raise ModelError(f"the configuration cannot be kept: {error}", code="config-invalid") from error


def written(config: Message) -> dict[str, Any]:
    """What it says and no more, as JSON that `from_json` reads."""
    said: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return said


def to_json(config: Message) -> dict[str, Any]:
    """As Triton's server answers it: names as in config.pbtxt, defaults written out, all integers as numbers."""
    plain: dict[str, Any] = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _numbers(plain, config)
    return plain


def _numbers(plain: dict[str, Any], config: Message) -> None:
    for field in config.DESCRIPTOR.fields:
        if field.name not in plain:
            continue
        value = plain[field.name]
        if field.cpp_type in _WHOLE:
            plain[field.name] = [int(item) for item in value] if isinstance(value, list) else int(value)
        elif field.message_type is not None:
            inner = getattr(config, field.name)
            if field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].message_type is not None:
                    for key, item in inner.items():
                        _numbers(value[str(key)], item)
            elif isinstance(value, list):
                for item, message in zip(value, inner, strict=True):
                    _numbers(item, message)
            else:
                _numbers(value, inner)
