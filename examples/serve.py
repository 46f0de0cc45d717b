"""One pipeline behind HTTP with Ray Serve: gamma and follow per request, one attachment a replica at any moment.

    pip install "alignvid[generate,ray]" "ray[serve]"
    python examples/serve.py --model miniature --replicas 2
    curl -s http://127.0.0.1:8000/ -d '{"prompt": "add a green circle at the top left", "image": "'$(base64 -w0 \
      examples/scene-1.png)'", "seed": 0, "gamma": 1.5}' -o clip.mp4

A replica takes one request at a time, so that no request meets another one's gain; more at once need more replicas. It
listens on this machine alone: put a server of your own before it that knows who may ask.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import io
import json
import os
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MAX_BYTES = 32 << 20
_FIELDS = {"prompt": str, "image": str, "seed": int, "steps": int, "guidance": float, "gamma": float, "follow": float}


@serve.deployment(max_ongoing_requests=1)
class Videos:
    """A loaded model that makes the clips of requests, one after the other."""

    def __init__(self, model: str) -> None:
        """Load the model once."""
        from alignvid.generate import GenerationSpec, load_model
        from alignvid.generate.loading import find_model

        self._name = model
        self._model = load_model(find_model(model), GenerationSpec(prompt="a prompt", model=model), show_progress=False)

    async def __call__(self, request: Request) -> Response:
        """An MP4, or 400 with the reason in JSON."""
        from alignvid.errors import AlignvidError

        try:
            values = _checked(await request.body())
            return Response(self._clip(values), media_type="video/mp4")
        except (AlignvidError, ValueError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    def _clip(self, values: dict[str, Any]) -> bytes:
        import torch

        import alignvid
        from alignvid.generate import GenerationSpec
        from alignvid.generate.call import call_arguments, check_accepts, frames_of, settle
        from alignvid.generate.plan import model_defaults, pipeline_class_of
        from alignvid.media.images import decode_image
        from alignvid.media.videos import encode_video

        gains = {name: values.pop(name) for name in ("gamma", "follow") if name in values}
        picture = values.pop("image", None)
        image = None if picture is None else decode_image(_decoded(picture), "image", max_pixels=50_000_000).pixels
        spec = GenerationSpec(model=self._name, image=None if image is None else "image", **values)
        source, pipeline = self._model.source, self._model.pipeline
        check_accepts(type(pipeline), spec)
        settings = settle(spec, model_defaults(source, pipeline_class_of(source)), image)
        arguments = {**call_arguments(type(pipeline), spec, settings, image), **source.extra_arguments}
        generator = torch.Generator("cpu").manual_seed(spec.seed)
        with torch.no_grad(), self._model.thread_limit(), alignvid.attach(pipeline, **gains):
            return encode_video(frames_of(pipeline(**arguments, generator=generator)), settings.fps)


def _decoded(picture: str) -> bytes:
    try:
        return base64.b64decode(picture, validate=True)
    except binascii.Error as error:
        raise ValueError(f"The field 'image' is no base64 ({error}); send a picture's file in it.") from error


def _checked(body: bytes) -> dict[str, Any]:
    """The fields of a request. Raises: ValueError naming the one that is wrong."""
    if len(body) > MAX_BYTES:
        raise ValueError(f"The request has {len(body):,} bytes, and at most {MAX_BYTES:,} are read.")
    values = json.load(io.BytesIO(body))
    if not isinstance(values, dict) or "prompt" not in values:
        raise ValueError(f"Send an object with a prompt, and if need be {', '.join(list(_FIELDS)[1:])}.")
    for name, value in values.items():
        if name not in _FIELDS:
            raise ValueError(f"The field {name!r} is unknown; choose from {', '.join(_FIELDS)}.")
        kinds = (int, float) if _FIELDS[name] is float else (_FIELDS[name],)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"The field {name!r} must be {_FIELDS[name].__name__}, but {value!r:.60} was given.")
    return values


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0.0, help="of each replica; may be a fraction")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    options = {"num_replicas": given.replicas, "ray_actor_options": {"num_cpus": 1, "num_gpus": given.gpus}}
    serve.run(Videos.options(**options).bind(given.model), blocking=True)


if __name__ == "__main__":
    main()
