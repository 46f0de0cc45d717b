"""What packages add by entry points: families, judges, metrics. A broken one is named with its package."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any


def load_plugin(point: EntryPoint, attribute: str, what: str, error: type[Exception]) -> Any:
    """The object that the module of an entry point calls `attribute`, or the one that it names as "module:NAME".

    Args:
        point: the entry point.
        attribute: name in its module, such as "FAMILY".
        what: the kind of thing, for the message, such as "family".
        error: raised if the module cannot be imported, whatever its code raises, or has no such attribute.
    """
    try:
        found = point.load()
        return found if point.attr else getattr(found, attribute)
    except Exception as cause:  # code of another package runs here, and may raise anything
        package = point.dist.name if point.dist else "a package"
        raise error(
            f"The {what} {point.name!r} of the package {package!r} cannot be loaded: {_reason(cause)}. "
            f"{point.module} must be a module with a {point.attr or attribute}; mend or uninstall that package."
        ) from cause


def _reason(cause: Exception) -> str:
    """In one line; the kind of error too, unless its message says it all."""
    words = " ".join(str(cause).split()).rstrip(".")
    return words if isinstance(cause, ImportError | AttributeError) else f"{type(cause).__name__}: {words}".rstrip(": ")
