"""Transformer families: one file each, found through entry points."""

from alignvid.models.family import Family, KeyNorm, OwnCache, Reads, Site, Stack, Time
from alignvid.models.registry import families, family_of, register
from alignvid.models.sizes import Sizes

__all__ = [
    "Family",
    "KeyNorm",
    "OwnCache",
    "Reads",
    "Site",
    "Sizes",
    "Stack",
    "Time",
    "families",
    "family_of",
    "register",
]
