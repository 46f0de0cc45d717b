"""A disk that takes no more."""

import resource
from contextlib import contextmanager

MEBIBYTE = 1 << 20


@contextmanager
def file_size_limit(limit_bytes: int):
    """A real refusal of the system in the middle of a write, as on a full disk, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
