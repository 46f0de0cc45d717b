"""What is known of a live model and of who runs it: transformers, step, pass, caches, key norms."""

from alignvid.host.transformers import Host, hosts

__all__ = ["Host", "hosts"]
