import json

import pytest

from alignvid import demo


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory):
    """The demo with its first two scenes, twice: the second time nothing is left to do."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SCENE_COUNT", 2)
        return demo.run_demo(out), demo.run_demo(out)


def test_every_scene_has_a_verdict_for_both_videos(two_scenes):
    made, _ = two_scenes
    assert set(made.judgements) == {"scene-1", "scene-2"}
    assert all(set(judgements) == {"baseline", "alignvid"} for judgements in made.judgements.values())


def test_the_page_shows_all_videos_and_both_counts(two_scenes):
    made, _ = two_scenes
    page = made.page.read_text()
    for role in ("baseline", "alignvid"):
        assert f'src="scene-2/{role}.mp4"' in page
    assert 'href="scene-2/side_by_side.mp4" download' in page
    assert 'href="scene-2/index.html"' in page and (made.page.parent / "scene-2" / "index.html").is_file()
    assert f"{made.shown_count('baseline')} of 2" in page
    assert page.count('class="verdict') >= 4


def test_the_demo_is_not_made_twice(two_scenes):
    _, again = two_scenes
    assert all(result.was_finished for result in again.results)


def test_the_result_is_plain_data(two_scenes):
    made, _ = two_scenes
    counts = json.loads(json.dumps(made.to_dict()))
    assert counts["scenes"] == 2
    assert counts["failed"] == {}
