#!/usr/bin/env bash
# Behaviour: libxml2 (lxml) calls a date, time or dateTime invalid if white space stands around it.
#   It accepts the same white space around decimals, integers, booleans and doubles. xmlschema
#   accepts all of them.
# Surprise: a bank statement (camt.053) or an odds feed that was pretty-printed is valid, and a
#   validator that is used as an alarm for changed formats reports a changed type, of the dates
#   alone.
# Versions: lxml 6.1.3 with its own libxml2, xmlschema 4.3.2.
# Source: XML Schema Part 2, 4.3.6: white space of every atomic type but string and its kin is
#   collapsed, and that cannot be changed; so a value is compared with its type after its edges were
#   trimmed.
# Right: valid. Until then strip the text of date elements before validating, or take an error at
#   one as a warning.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install lxml==6.1.3 xmlschema==4.3.2

observe <<'PY'
import xmlschema
from lxml import etree

VALUES = {
    "decimal": "10.00",
    "integer": "10",
    "boolean": "true",
    "double": "1.85",
    "date": "2026-11-29",
    "time": "12:00:00",
    "dateTime": "2026-11-29T12:00:00Z",
    "gYearMonth": "2026-11",
}
for kind, value in VALUES.items():
    schema = (
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">'
        f'<xs:element name="v" type="xs:{kind}"/></xs:schema>'
    )
    libxml2 = etree.XMLSchema(etree.fromstring(schema))
    python = xmlschema.XMLSchema(schema)
    plain, indented = f"<v>{value}</v>", f"<v>\n  {value}\n</v>"
    print(
        f"{kind:11}plain: libxml2 {libxml2.validate(etree.fromstring(plain))!s:6}"
        f"indented: libxml2 {libxml2.validate(etree.fromstring(indented))!s:6}"
        f"xmlschema {python.is_valid(indented)}"
    )
PY
expect <<'TEXT'
decimal    plain: libxml2 True  indented: libxml2 True  xmlschema True
integer    plain: libxml2 True  indented: libxml2 True  xmlschema True
boolean    plain: libxml2 True  indented: libxml2 True  xmlschema True
double     plain: libxml2 True  indented: libxml2 True  xmlschema True
date       plain: libxml2 True  indented: libxml2 False xmlschema True
time       plain: libxml2 True  indented: libxml2 False xmlschema True
dateTime   plain: libxml2 True  indented: libxml2 False xmlschema True
gYearMonth plain: libxml2 True  indented: libxml2 False xmlschema True
TEXT
