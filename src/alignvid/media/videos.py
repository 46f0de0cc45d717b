"""Write frames as H.264 that every browser plays, and read them back."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

from alignvid.errors import InputError, OutputError, UnreadableFile
from alignvid.files import check_file, write_bytes

CONSTANT_RATE_FACTOR = 12
"""x264's quality, 0 lossless to 51; at 12 a clip is a few grey levels away from its frames."""

MAX_FPS = 240
_ENCODER = "libx264"
_BT709 = 1  # the number of BT.709 in ISO/IEC 23091-2, for primaries, transfer and matrix alike
_MUXER = {"movflags": "+faststart", "fflags": "+bitexact"}  # bitexact: the file does not hold the time of day
_GAP = 8  # pixels of white between the clips of a side-by-side

Frames = UInt8[np.ndarray, "frame height width 3"]


@dataclass(frozen=True)
class Clip:
    """A decoded video."""

    frames: Frames
    """RGB."""
    fps: float
    """Frames a second."""


def encode_video(frames: np.ndarray, fps: float) -> bytes:
    """The frames as an MP4 file: H.264, yuv420p, BT.709, index in front. The same frames give the same bytes.

    The format needs even sides: an odd one gets its last row or column twice.

    Args:
        frames: RGB, uint8 of (frames, height, width, 3).
        fps: Frames a second.

    Raises: OutputError if the frames are no video, the fps is out of range or the encoder is missing.
    """
    _check_frames(frames, fps)
    even = _even(frames)
    buffer = io.BytesIO()
    # With the index in front the muxer reads its own output again, through `io_open`.
    with av.open(buffer, "w", format="mp4", options=_MUXER, io_open=_reopen(buffer)) as container:
        stream = _h264_stream(container, even.shape, fps)
        for frame in even:
            container.mux(stream.encode(_yuv420p(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


def write_video(path: str | Path, frames: np.ndarray, fps: float) -> None:
    """Write the frames as an MP4 file; it appears under its name only when it is complete.

    Raises: OutputError if it cannot be encoded or written.
    """
    write_bytes(Path(path), encode_video(frames, fps))


def read_video(path: str | Path) -> Clip:
    """All frames of a video file.

    Raises: InputError if there is no such file, or no video in it.
    """
    try:
        check_file(path)
    except UnreadableFile as error:
        raise InputError(f"Video {error} Give an MP4, WebM or MOV file.") from error
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            fps = float(stream.average_rate or 0)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"Video {str(path)!r} cannot be read: {error}; give an MP4, WebM or MOV file.") from error
    if not frames:
        raise InputError(f"Video {str(path)!r} has no frame; give a complete file.")
    return Clip(frames=np.stack(frames), fps=fps)


def side_by_side(*clips: UInt8[np.ndarray, "frame height _ 3"]) -> UInt8[np.ndarray, "frame height _ 3"]:
    """Clips of equal height and length as one, from left to right with a white gap."""
    length, height, _, channels = clips[0].shape
    gap = np.full((length, height, _GAP, channels), 255, np.uint8)
    columns = [column for clip in clips for column in (gap, clip)]
    return np.concatenate(columns[1:], axis=2)


def has_h264_encoder() -> bool:
    """Whether the installed PyAV can write H.264."""
    return _ENCODER in av.codecs_available


def _check_frames(frames: np.ndarray, fps: float) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise OutputError(
            f"Frames of shape {frames.shape} and type {frames.dtype} are no video; "
            "give uint8 of (frames, height, width, 3)."
        )
    if not 0 < fps <= MAX_FPS:
        raise OutputError(f"fps {fps} is out of range; choose a number above 0 and up to {MAX_FPS}.")
    if not has_h264_encoder():
        raise OutputError('PyAV has no H.264 encoder here; install the wheel: pip install --force-reinstall "av>=18"')


def _even(frames: Frames) -> UInt8[np.ndarray, "frame _ _ 3"]:
    _, height, width, _ = frames.shape
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _h264_stream(container: OutputContainer, shape: tuple[int, ...], fps: float) -> av.VideoStream:
    stream = container.add_stream(_ENCODER, rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = shape[1:3]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    # Without mbtree: with it, 3 of 560 encodes of one clip of 32x32 pixels gave other bytes, without it none did.
    context.options = {"crf": str(CONSTANT_RATE_FACTOR), "preset": "medium", "mbtree": "0"}
    context.thread_count = 1  # more threads would make the bytes depend on the machine
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = ColorRange.MPEG
    return stream


def _yuv420p(rgb: np.ndarray) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    frame.color_range = ColorRange.JPEG
    return frame.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )


def _reopen(buffer: io.BytesIO) -> Callable[[str, int, dict], io.BytesIO]:
    return lambda url, flags, options: io.BytesIO(buffer.getvalue())
