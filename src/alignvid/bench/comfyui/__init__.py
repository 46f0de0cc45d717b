"""Clips made by a ComfyUI that is running on this machine: a workflow with placeholders, and its API's client."""
