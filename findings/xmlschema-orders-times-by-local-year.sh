#!/usr/bin/env bash
# Behaviour: xmlschema compares two moments by their printed years first and by their offsets only
#   within one year. On New Year's Eve, 23:30 at UTC-1 is 00:30 UTC of the new year, and it is
#   refused where the schema's lower bound is the new year's first second. The same hour of any
#   other day is accepted, and libxml2 accepts both.
# Surprise: right on 364 days. A licence or tax period that begins with the year is the usual bound,
#   and the bodies that fail are those of the busiest night, of the offsets west of Greenwich alone.
# Versions: xmlschema 4.3.2 with elementpath 5.1.4, lxml 6.1.3.
# Source: XML Schema Part 2, 3.2.7.4: both values are normalised to UTC before their fields are
#   compared; `AbstractDateTime.__lt__` in elementpath/datatypes.
# Right: valid. Until then check periods after conversion to UTC, not by facets.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install xmlschema==4.3.2 elementpath==5.1.4 lxml==6.1.3

observe <<'PY'
import xmlschema
from lxml import etree

SCHEMA = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="at"><xs:simpleType>'
    '<xs:restriction base="xs:dateTime"><xs:minInclusive value="{}"/></xs:restriction>'
    "</xs:simpleType></xs:element></xs:schema>"
)
for bound, at in (
    ("2026-03-05T00:00:00Z", "2026-03-04T23:30:00-01:00"),
    ("2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z"),
    ("2026-01-01T00:00:00Z", "2025-12-31T23:30:00-01:00"),
    ("2026-01-01T00:00:00Z", "2025-12-31T22:00:00-05:00"),
):
    schema, body = SCHEMA.format(bound), f"<at>{at}</at>"
    libxml2 = etree.XMLSchema(etree.fromstring(schema)).validate(etree.fromstring(body))
    python = xmlschema.XMLSchema(schema).is_valid(body)
    print(f"from {bound}: {at:26}libxml2 {libxml2!s:6}xmlschema {python}")
PY
expect <<'TEXT'
from 2026-03-05T00:00:00Z: 2026-03-04T23:30:00-01:00 libxml2 True  xmlschema True
from 2026-01-01T00:00:00Z: 2026-01-01T00:30:00Z      libxml2 True  xmlschema True
from 2026-01-01T00:00:00Z: 2025-12-31T23:30:00-01:00 libxml2 True  xmlschema False
from 2026-01-01T00:00:00Z: 2025-12-31T22:00:00-05:00 libxml2 True  xmlschema False
TEXT
