#!/usr/bin/env bash
# Behaviour: `babel.numbers.get_currency_precision` gives 0 for fourteen currencies whose minor unit
#   in ISO 4217 is 2, and for the Iraqi dinar, whose minor unit is 3. It answers with CLDR's digits
#   for display.
# Surprise: the name and the values of all large currencies suggest the minor unit. Code that turns
#   minor units of a payment message into amounts by it makes 25,00 HUF into 2500: a hundred times
#   the money, in some markets only.
# Versions: babel 2.19.0, iso4217 1.16.20260101 (the list of ISO 4217's maintenance agency of
#   2026-01-01).
# Source: ISO 4217 list one, column minor unit; Unicode TS 35 part 3, `fractions`: digits by custom
#   of use, for formatting.
# Right: as documented by CLDR; for money take the exponent from ISO's list, for texts CLDR's
#   digits.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install babel==2.19.0 iso4217==1.16.20260101

observe <<'PY'
from babel.numbers import get_currency_precision
from iso4217 import Currency

units = {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}
differing = {code: unit for code, unit in units.items() if get_currency_precision(code) != unit}
print(len(units), "currencies with a minor unit,", len(differing), "differ")
for unit in sorted(set(differing.values())):
    codes = sorted(code for code in differing if differing[code] == unit)
    print("ISO", unit, "CLDR", *{get_currency_precision(code) for code in codes}, *codes)
PY
expect <<'TEXT'
165 currencies with a minor unit, 15 differ
ISO 2 CLDR 0 AFN ALL COP HUF IDR IRR KPW LAK LBP MGA MMK SOS SYP YER
ISO 3 CLDR 0 IQD
TEXT
