"""Windows over event time: tumbling, hopping, session and sliding ones, and watermarks. Pure.

`sliding` counts up to the second and is made for every bet of the log. `exact` keeps the few
events of a key that a rule sums or compares, exact to the millisecond. `buckets` holds the windows
that close at a watermark, `watermark` the watermarks of partitions and the merge of several.
"""

from fraud_agents.windows.buckets import (
    Bounds,
    ClosedWindow,
    Hopping,
    SessionWindows,
    Tumbling,
    WindowedSums,
)
from fraud_agents.windows.exact import EventWindow, ExactSpec, WindowEntry
from fraud_agents.windows.sliding import (
    SECOND_MS,
    Arrival,
    Contribution,
    KeyedState,
    KeyedWindows,
    Label,
    SlidingWindow,
    Span,
    WindowSpec,
    dump_windows,
    restore_windows,
)
from fraud_agents.windows.watermark import InputId, OrderedMerge, PartitionWatermark, Released

__all__ = [
    "SECOND_MS",
    "Arrival",
    "Bounds",
    "ClosedWindow",
    "Contribution",
    "EventWindow",
    "ExactSpec",
    "Hopping",
    "InputId",
    "KeyedState",
    "KeyedWindows",
    "Label",
    "OrderedMerge",
    "PartitionWatermark",
    "Released",
    "SessionWindows",
    "SlidingWindow",
    "Span",
    "Tumbling",
    "WindowEntry",
    "WindowSpec",
    "WindowedSums",
    "dump_windows",
    "restore_windows",
]
