"""What the page answers where no model is needed."""

import pytest
from PIL import Image

from alignvid.app.desk import Desk, form_of, made_scene, worded
from alignvid.app.form import Form
from alignvid.app.views import progress_bar
from alignvid.app.workshop import Loading, Workshop
from alignvid.errors import InputError
from alignvid.miniature.drawing import HEIGHT, WIDTH


@pytest.fixture
def desk(tmp_path):
    return Desk(Workshop(tmp_path, {"max_pixels": 400}))


def test_a_picture_above_the_limit_is_said_with_what_raises_it_and_without_the_server_s_folder(desk, tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "large.png")
    said = desk.check(str(tmp_path / "large.png"))
    assert "Image &#x27;large.png&#x27; is 40x20" in said and "start the page with --max-pixels 800" in said
    assert "error" in said and str(tmp_path) not in said
    assert desk.check(None) == ""


def test_an_animation_is_noticed_and_is_no_error(desk, tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    said = desk.check(str(tmp_path / "two.gif"))
    assert "has 2 frames; the first one is the reference" in said and "error" not in said


def test_messages_for_a_command_line_are_worded_for_the_page():
    assert worded(InputError("It needs a reference image; give one with --image."), None) == (
        "It needs a reference image; put one into the form."
    )


def test_fields_come_in_the_order_of_the_page_and_empty_texts_are_texts():
    values = (None, "p", "slider", 0.5, None, "", None, None, "7", "", None, None, "")
    assert form_of(values) == Form(prompt="p", strength="slider", follow=0.5, seed="7", steps="", frames="")


def test_scenes_differ_and_have_the_miniature_s_size():
    pictures = [made_scene(number)[0] for number in range(3)]
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert {picture.size for picture in pictures} == {(WIDTH, HEIGHT)}


def test_no_run_is_no_error(desk):
    assert "No run yet" in desk.history()


def test_what_needs_the_libraries_waits_while_they_are_read_and_says_so(tmp_path):
    shop, seen = Workshop(tmp_path, {}), []
    shop.begin_to_read()

    def report(state):
        seen.append(state)
        shop.read(lambda: None)

    shop.wait_until_read(report)
    assert seen == [Loading()] and "Loading the model…" in progress_bar(seen[0])


def test_a_model_that_is_not_there_is_said_when_the_libraries_are_read(tmp_path):
    shop = Workshop(tmp_path, {"model": str(tmp_path / "none")})
    with pytest.raises(InputError, match="is not there; give 'miniature', 'miniature-4-step', a folder"):
        shop.read(lambda: None)
    shop.wait_until_read()  # the libraries are
