import json


def test_inspect_shows_stacks_sites_and_streams(alignvid):
    code, out, _ = alignvid("inspect", "miniature")
    assert code == 0
    assert "blocks" in out
    assert "text, image" in out


def test_inspect_tells_what_a_preset_would_touch(alignvid):
    _, out, _ = alignvid("inspect", "miniature", "--preset", "generic", "--json")
    touches = json.loads(out)["touches"]
    assert touches["name"] == "generic:generic"
    assert set(touches["gains"]) == {"cross.text", "cross.image"}


def test_inspect_refuses_a_preset_of_another_family(alignvid):
    code, _, err = alignvid("inspect", "miniature", "--preset", "framepack")
    assert code == 2
    assert "is for the family framepack" in err


def test_doctor_reports_and_says_whether_all_is_there(alignvid):
    code, out, _ = alignvid("doctor")
    assert code == 0
    assert "H.264" in out
    assert all(check["is_fine"] or check["remedy"] for check in json.loads(alignvid("doctor", "--json")[1]))


def test_inspect_takes_a_model_or_a_run(alignvid, tmp_path):
    code, _, err = alignvid("inspect", "miniature", "--run", tmp_path)
    assert code == 2
    assert "--run shows a run, so MODEL and --preset say nothing" in err
