"""The payload schemas of providers, and whether a body fulfils one: JSON Schema, XSD or Avro."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import fastavro
import jsonschema
from lxml import etree

from lab.conformance.examples.fill import Example
from lab.conformance.examples.find import Examples

ROOT = Path(str(files("schemas"))) / "providers"
SUFFIXES = (".schema.json", ".xsd", ".avsc")


def schema_files(provider: str, example: Example) -> list[Path]:
    """Every version of the example's payload schema, the newest first; none without a folder for it."""
    folders = {path.name: path for path in sorted((ROOT / provider).glob("*")) if path.is_dir()}
    operation = next((expected.operation for expected in example.expects if expected.operation), "")
    named = example.schema or operation
    if named not in folders and example.schema is None and len(folders) == 1:
        [named] = folders
    if named not in folders:
        return []
    found = [path for path in folders[named].iterdir() if path.name.endswith(SUFFIXES)]
    return sorted(found, key=lambda path: -int(re.findall(r"^v(\d+)", path.name)[0]))


def complaint(path: Path, example: Example, examples: Examples) -> str:
    """Why the body does not fulfil the schema; empty where it does."""
    if path.suffix == ".xsd":
        return _xml_complaint(path, example.value)
    if path.suffix == ".avsc":
        return _avro_complaint(path, example, examples.payload)
    content_type = example.headers.get("content-type", b"").decode().partition(";")[0].strip()
    if examples.payload is not None:
        body = examples.payload(example)
    elif content_type == "application/x-www-form-urlencoded":
        body = dict(parse_qsl(example.value.decode(), keep_blank_values=True))
    else:
        body = json.loads(example.value)
    error = jsonschema.exceptions.best_match(_json_schema(path).iter_errors(body))
    return "" if error is None else f"{error.json_path}: {error.message}"


@cache
def _json_schema(path: Path) -> jsonschema.Draft202012Validator:
    document = json.loads(path.read_bytes())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@cache
def _xml_schema(path: Path) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(path))


def _xml_complaint(path: Path, value: bytes) -> str:
    schema = _xml_schema(path)
    log: Any = schema.error_log  # lxml-stubs do not know its last_error
    return "" if schema.validate(etree.fromstring(value)) else str(log.last_error)


def _avro_complaint(path: Path, example: Example, payload: Callable[[Example], Any] | None) -> str:
    schema = fastavro.parse_schema(json.loads(path.read_bytes()))
    try:
        if example.value.startswith(b"Obj\x01"):
            list(fastavro.reader(io.BytesIO(example.value), reader_schema=schema))
        else:
            # `payload` says what there is before and behind the record: a schema id, a frame.
            fastavro.schemaless_reader(
                io.BytesIO(payload(example) if payload else example.value), schema, None
            )
    except Exception as error:  # noqa: BLE001 - whatever the decoder raises is the complaint
        return f"{type(error).__name__}: {error}"
    return ""
