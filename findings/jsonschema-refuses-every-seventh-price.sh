#!/usr/bin/env bash
# Behaviour: of the ten thousand amounts from 0.01 to 100.00, jsonschema refuses 1,363 as not a
#   multiple of 0.01. It divides two floats and looks whether the quotient is whole. fastjsonschema
#   and jsonschema-rs accept all. With a Decimal as the instance and a schema read as usual, it
#   raises TypeError; with both as Decimal it accepts all.
# Surprise: `multipleOf: 0.01` is how a schema says "two decimals", and the specification's page has
#   this example. The same contract passes at the provider, whose validator is another one, and
#   fails here by the amount: 0.07, 0.14, 0.28.
# Versions: jsonschema 4.26.0, fastjsonschema 2.22.3, jsonschema-rs 0.61.2.
# Source: JSON Schema 2020-12 validation, 6.2.1: valid if the division gives an integer;
#   python-jsonschema issue 1234.
# Right: accept all. Until then read both body and schema with `parse_float=Decimal`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install jsonschema==4.26.0 fastjsonschema==2.22.3 jsonschema-rs==0.61.2

observe <<'PY'
import json
from decimal import Decimal

import fastjsonschema
import jsonschema
import jsonschema_rs

SCHEMA = '{"multipleOf": 0.01}'
PRICES = [f"{cents // 100}.{cents % 100:02}" for cents in range(1, 10001)]
fast = fastjsonschema.compile(json.loads(SCHEMA))


def accepts_fast(price):
    try:
        fast(price)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


floats = jsonschema.Draft202012Validator(json.loads(SCHEMA))
exact = jsonschema.Draft202012Validator(json.loads(SCHEMA, parse_float=Decimal))
rust = jsonschema_rs.validator_for(json.loads(SCHEMA))
refused = [price for price in PRICES if not floats.is_valid(json.loads(price))]
print("jsonschema refuses", len(refused), "first", *refused[:6])
print("jsonschema, all Decimal, refuses", sum(not exact.is_valid(Decimal(p)) for p in PRICES))
print("fastjsonschema refuses", sum(not accepts_fast(json.loads(p)) for p in PRICES))
print("jsonschema-rs refuses", sum(not rust.is_valid(json.loads(p)) for p in PRICES))
try:
    floats.is_valid(Decimal("19.99"))
except TypeError as error:
    print("jsonschema, Decimal under a float:", error)
PY
expect <<'TEXT'
jsonschema refuses 1363 first 0.07 0.14 0.28 0.29 0.47 0.56
jsonschema, all Decimal, refuses 0
fastjsonschema refuses 0
jsonschema-rs refuses 0
jsonschema, Decimal under a float: unsupported operand type(s) for /: 'decimal.Decimal' and 'float'
TEXT
