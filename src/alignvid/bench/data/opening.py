"""Find a data set by name: OmitShapes, OmitI2V, or a folder or a data set of the Hub in OmitI2V's schema."""

from __future__ import annotations

import re

from alignvid.bench.data.dataset import OMITI2V, OMITSHAPES, DataSet
from alignvid.errors import InputError
from alignvid.files import is_there, user_path

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")


def open_data(name: str) -> DataSet:
    """The data set of that name.

    Raises: InputError if there is none, or if no row of it can be read.
    """
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
        "data set on the Hugging Face Hub (owner/name, owner/name@revision)."
    )
