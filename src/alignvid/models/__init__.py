"""Transformer families: one file each, found through entry points."""

from alignvid.models.family import Family, KeyNorm, Site, Stack
from alignvid.models.registry import families, family_of, register

__all__ = ["Family", "KeyNorm", "Site", "Stack", "families", "family_of", "register"]
