import numpy as np
import pytest

from alignvid.errors import PictureError
from alignvid.media.videos import read_video, write_video
from alignvid.plots import mean_map, overlaid
from alignvid.plots.overlay import pixel_frames
from made_traces import made_map

FRAMES = np.full((9, 64, 64, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("latent", "frames", "counts"),
    [(3, 9, [1, 4, 4]), (21, 81, [1, *[4] * 20]), (1, 1, [1]), (5, 5, [1] * 5), (2, 9, [1, 8])],
)
def test_a_latent_frame_stands_for_the_frames_it_was_made_into(latent, frames, counts):
    assert pixel_frames(latent, frames) == counts


@pytest.mark.parametrize(("latent", "frames"), [(3, 8), (4, 9), (1, 9), (3, 1)])
def test_counts_that_do_not_fit_are_refused(latent, frames):
    with pytest.raises(PictureError, match=f"A map of {latent} latent frames does not fit {frames} frames"):
        pixel_frames(latent, frames)


def test_the_map_changes_with_its_latent_frame():
    weights = np.zeros((3, 2, 2), np.float32)
    weights[1] = 1.0
    drawn = overlaid(FRAMES, weights, word="cat", brightest=1.0)[:, :320]
    is_bright = [frame.mean() > drawn.mean() for frame in drawn]
    assert is_bright == [False, *[True] * 4, *[False] * 4]


def test_attention_lies_where_the_map_has_it():
    weights = np.zeros((3, 2, 2), np.float32)
    weights[:, 0, 1] = 1.0
    first = overlaid(FRAMES, weights, word="cat", brightest=1.0)[0].astype(int)
    assert first[20, 300, 0] > 150 > first[300, 20, 0]  # top right is cividis' yellow, bottom left its blue


def test_small_frames_are_enlarged_and_large_ones_are_not():
    weights = np.ones((3, 2, 2), np.float32)
    assert overlaid(FRAMES, weights, word="cat", brightest=1.0).shape[2] == 320
    large = np.zeros((9, 480, 832, 3), np.uint8)
    assert overlaid(large, weights, word="cat", brightest=1.0).shape[2] == 832


def test_the_strip_has_the_word_and_the_scale():
    def strip(word, brightest):
        weights = np.full((3, 2, 2), brightest, np.float32)
        return overlaid(FRAMES, weights, word=word, brightest=brightest)[0, 320:]

    assert len(strip("cat", 0.5)) >= 60
    assert not np.array_equal(strip("cat", 0.5), strip("dog", 0.5))
    assert not np.array_equal(strip("cat", 0.5), strip("cat", 0.25))
    assert strip("a very long word that does not fit " * 5, 0.5).shape == strip("cat", 0.5).shape


def test_an_overlay_is_a_video_that_plays(tmp_path):
    write_video(tmp_path / "a.mp4", overlaid(FRAMES, np.ones((3, 2, 2), np.float32), word="cat", brightest=1.0), 8)
    assert read_video(tmp_path / "a.mp4").frames.shape[0] == 9


def test_maps_are_averaged_by_name():
    maps = [made_map("cat", value=0.2), made_map("cat", value=0.4), made_map("dog", value=0.9)]
    assert mean_map(maps, "cat") == pytest.approx(np.full((3, 2, 2), 0.3))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "no map of 'cat'; there is none at all"),
        ([made_map("dog")], "no map of 'cat'; there is dog"),
        ([made_map("cat"), made_map("cat", shape=(3, 4, 4))], r"have the sizes \[\(3, 2, 2\), \(3, 4, 4\)\]"),
        ([made_map("cat", value=np.nan)], "is empty or has NaN or infinity; observe the run again"),
    ],
    ids=str,
)
def test_maps_that_cannot_be_drawn_are_one_sentence(maps, message):
    with pytest.raises(PictureError, match=message):
        mean_map(maps, "cat")


@pytest.mark.parametrize("brightest", [0.0, float("nan"), float("inf")])
def test_a_scale_without_an_end_is_refused(brightest):
    with pytest.raises(PictureError, match="give a finite number above 0"):
        overlaid(FRAMES, np.ones((3, 2, 2), np.float32), word="cat", brightest=brightest)
