"""Find a data set by name: OmitShapes, OmitI2V or another in its schema, and what is named with a prefix."""

from __future__ import annotations

import re

from alignvid.bench.data.dataset import OMITI2V, OMITSHAPES, DataSet
from alignvid.errors import InputError
from alignvid.files import is_there, user_path

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")


PREFIXES = ("i2v-compbench", "editing", "t2v", "t2i")
"""What stands before the colon of data in another schema than OmitI2V's."""


def open_data(name: str) -> DataSet:
    """The data set of that name.

    Raises: InputError if there is none, or if no row of it can be read.
    """
    prefix, colon, where = name.partition(":")
    if colon and prefix in PREFIXES:
        return _prefixed(prefix, where)
    if name == OMITSHAPES:
        from alignvid.bench.data.omitshapes import omitshapes

        return omitshapes()
    from alignvid.bench.data.omiti2v import REPOSITORY, from_folder, from_hub

    if name == OMITI2V:
        return from_hub(REPOSITORY)
    if name.strip() and is_there(path := user_path(name)):
        return from_folder(path)
    if _HUB_ID.fullmatch(name):
        return from_hub(name)
    raise InputError(
        f"Data set {name!r} is not there; give '{OMITSHAPES}', '{OMITI2V}', a folder with a meta.json, or the id of a "
        "data set on the Hugging Face Hub (owner/name, owner/name@revision); or one of other forms, as "
        f"{', '.join(f'{prefix}:PATH' for prefix in PREFIXES)}."
    )


def _prefixed(prefix: str, where: str) -> DataSet:
    from alignvid.bench.data.compbench import compbench
    from alignvid.bench.data.editing import editing
    from alignvid.bench.data.prompt_lists import prompt_list

    if not where.strip():
        raise InputError(f"{prefix + ':'!r} names no place; write {prefix}:PATH.")
    if prefix == "i2v-compbench":
        return compbench(where)
    return editing(where) if prefix == "editing" else prompt_list(where, prefix)
