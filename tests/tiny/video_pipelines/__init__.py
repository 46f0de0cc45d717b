"""Real video pipelines of diffusers beyond Wan, HunyuanVideo and FramePack, made tiny; see tests/tiny/pipelines.py."""

from video_pipelines import channels_and_text, cosmos, cosmos3, joint, ltx, ltx_siblings, modular, sana_wm, wan_like

BUILDERS = {
    builder.__name__: builder
    for module in (ltx, ltx_siblings, joint, wan_like, channels_and_text, cosmos, cosmos3, modular, sana_wm)
    for builder in module.BUILDERS
}
"""Every pipeline by name, for parametrised tests."""
