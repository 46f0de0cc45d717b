"""Real pipelines of diffusers for pictures, beyond those of image_pipelines.py, made tiny; see pipelines.py."""

from picture_pipelines import apart, flux_like, joint, modular

BUILDERS = {builder.__name__: builder for module in (flux_like, joint, apart, modular) for builder in module.BUILDERS}
"""Every pipeline by name, for parametrised tests."""
