"""Real video pipelines of diffusers beyond Wan, HunyuanVideo and FramePack, made tiny; see tests/pipelines.py."""

from video_pipelines import channels_and_text, cosmos, joint, ltx, ltx_siblings, modular, wan_like

BUILDERS = {
    builder.__name__: builder
    for module in (ltx, ltx_siblings, joint, wan_like, channels_and_text, cosmos, modular)
    for builder in module.BUILDERS
}
"""Every pipeline by name, for parametrised tests."""
