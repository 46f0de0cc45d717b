"""What is known of a live model and of who runs it: runners, transformers, step, pass, caches, key norms."""

from alignvid.host.registry import register
from alignvid.host.runner import Door, Runner
from alignvid.host.transformers import Host, hosts

__all__ = ["Door", "Host", "Runner", "hosts", "register"]
