"""Transformer families: one file each, found through entry points."""

from alignvid.models.family import Family, KeyNorm, Site, Stack
from alignvid.models.registry import Host, families, family_of, hosts, register

__all__ = ["Family", "Host", "KeyNorm", "Site", "Stack", "families", "family_of", "hosts", "register"]
