"""The checker of signatures that the test session switches on (conftest.py)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As type checkers read it, `float` takes an int: alignvid.attach(pipe, gamma=2)."""
