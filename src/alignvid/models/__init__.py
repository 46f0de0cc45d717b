"""Transformer families: one file each, found through entry points."""

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.registry import families, family_of, register

__all__ = ["Family", "KeyNorm", "Reads", "Site", "Stack", "Time", "families", "family_of", "register"]
