#!/usr/bin/env bash
# Behaviour: a hopping window of Faust takes its step in seconds as a float, and then hops by its
#   whole part. Windows of ten seconds every 2.5 are made every 2: five ranges an event where there
#   should be four. A step below one second raises ValueError, at the first event and not where the
#   window is declared.
# Surprise: no error for 2.5 or 1.5, where 61 windows hold each event instead of 40: each count over
#   windows is too high by half, and a threshold that was tuned on paper fires early.
# Versions: faust-streaming 0.15.3.
# Source: Faust's user guide on windowing (sizes and steps are `Seconds`, a float or timedelta);
#   `HoppingWindow.ranges` in faust/windows.py and in its compiled twin, which call `range` with
#   `int(step)`.
# Right: ranges that begin at multiples of the step. Until then take whole seconds, or windows of
#   your own.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install faust-streaming==0.15.3

observe <<'PY'
from faust import HoppingWindow

for size, step in ((10, 5), (10, 2.5), (60, 1.5)):
    ranges = HoppingWindow(size, step).ranges(100.0)
    begins = [begin for begin, _ in ranges]
    print(size, step, "due", size / step, "got", len(ranges), "from", begins[0], begins[1])
window = HoppingWindow(10, 0.5)
try:
    window.ranges(100.0)
except ValueError as error:
    print(10, 0.5, "declared, then at an event:", error)
PY
expect <<'TEXT'
10 5 due 2.0 got 2 from 95.0 100.0
10 2.5 due 4.0 got 5 from 92.0 94.0
60 1.5 due 40.0 got 61 from 40.0 41.0
10 0.5 declared, then at an event: range() arg 3 must not be zero
TEXT
