"""What can go wrong when looking into a run, or reading what was seen.

AlignvidError
├── ObservationError    a model that cannot be observed in its present state, or nothing was observed
└── TraceError          a trace that cannot be read, asked or compared
"""

from alignvid.errors import AlignvidError


class ObservationError(AlignvidError, RuntimeError):
    """The model cannot be observed in its present state, or nothing was observed."""


class TraceError(AlignvidError, ValueError):
    """A trace cannot be read, has nothing that was asked for, or does not fit the one it is compared with."""
