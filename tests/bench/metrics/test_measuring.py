import json
from dataclasses import replace

import numpy as np
import pytest

from alignvid.bench import records
from alignvid.bench.metrics import footage as footage_module
from alignvid.bench.metrics import measure_run
from alignvid.bench.metrics.preparation import NOT_LOADED
from alignvid.bench.run_folder import RunFolder
from alignvid.errors import InputError
from metric_models import moving_square, save_run

FREE = ["temporal_flickering", "dynamic_degree_dis"]  # need no weights


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "run", {"a": moving_square(5), "b": moving_square(4, step=0), "c": None})


def measure(run, names=FREE, protocol="vbench", **options):
    sources = {name: str(path) for name, path in options.pop("sources", {}).items()}
    return measure_run(run, names, protocol=protocol, sources=sources, device="cpu", **options)


def values(run):
    return {(row.metric, row.protocol, row.sample): row.value for row in run.metrics()}


def lines(run):
    return (run.path / "metrics.jsonl").read_text().splitlines()


def test_each_video_gets_a_row_per_metric(run):
    measured = measure(run)
    assert set(values(run)) == {(name, "vbench", sample) for name in FREE for sample in "ab"}
    assert values(run)["temporal_flickering", "vbench", "b"] > 0.99
    assert measured.videos == 2
    assert measured.without_video == 1
    assert [(count.metric, count.measured, count.failed) for count in measured.counts] == [(n, 2, 0) for n in FREE]


def test_a_row_says_which_video_and_which_settings(run):
    measure(run)
    row = run.metrics()[0]
    settings = json.loads((run.path / "metric-settings.json").read_text())
    assert row.video_sha256 == run.videos()[0].sha256
    assert settings[row.settings]["metric"] == row.metric
    assert settings[row.settings]["versions"].keys() == {"av", "numpy"}


def test_what_is_measured_is_kept(run):
    measure(run, ["temporal_flickering"])
    before = lines(run)
    measured = measure(run, ["temporal_flickering"])
    assert lines(run) == before
    assert measured.counts[0].measured == 2


def test_a_new_metric_or_protocol_is_measured_beside_the_old(run):
    measure(run, ["temporal_flickering"])
    measure(run, ["temporal_flickering", "dynamic_degree_dis"], "native")
    assert len(lines(run)) == 6
    assert {key[1] for key in values(run)} == {"vbench", "native"}


def test_the_protocol_is_the_first_that_all_of_the_metrics_know(run):
    assert measure(run, ["temporal_flickering"], None).protocol == "vbench"
    assert measure(run, ["temporal_flickering", "edit_shown"], None).protocol == "native"


@pytest.mark.parametrize("asked", ["vbench", "released"])
def test_a_protocol_that_a_metric_does_not_know_is_refused_before_anything_is_measured(run, asked):
    with pytest.raises(InputError, match=f"edit_shown is defined by .* native only, not {asked}; choose that"):
        measure(run, ["temporal_flickering", "edit_shown"], asked)
    assert not (run.path / "metrics.jsonl").exists()


def test_a_video_that_was_made_again_is_measured_again(run):
    measure(run, ["temporal_flickering"])
    other = save_run(run.path.parent / "other", {"a": moving_square(5, step=9)})
    record = other.videos()[0]
    run.write_video(record, (other.path / record.file).read_bytes())

    measure(run, ["temporal_flickering"])

    row = next(row for row in run.metrics() if row.sample == "a")
    assert row.video_sha256 == record.sha256
    assert len(lines(run)) == 3


def test_each_video_is_decoded_once(run, monkeypatch):
    decoded = []
    read_video = footage_module.read_video
    monkeypatch.setattr(footage_module, "read_video", lambda path: decoded.append(path.name) or read_video(path))
    measure(run)
    assert decoded == ["job-a.mp4", "job-b.mp4"]


@pytest.mark.parametrize("damage", ["missing", "cut short", "another"])
def test_a_damaged_video_is_recorded_and_the_others_go_on(run, damage):
    path = run.path / "videos" / "job-a.mp4"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut short" else b"no video")

    measured = measure(run)

    bad = [row for row in run.metrics() if row.sample == "a"]
    assert len(bad) == 2
    assert all(row.value is None and "job-a.mp4" in row.error for row in bad)
    assert [(count.measured, count.failed) for count in measured.counts] == [(1, 1), (1, 1)]


def test_a_file_that_is_on_record_but_no_video_is_recorded(run):
    record = run.videos()[0]
    run.write_video(replace(record, sha256=footage_module.sha256_of_file(run.path / "run.json")), None)
    (run.path / record.file).write_bytes((run.path / "run.json").read_bytes())
    measure(run, ["temporal_flickering"])
    assert "cannot be read" in next(row.error for row in run.metrics() if row.sample == "a")


def test_what_failed_is_tried_again_and_said_once(run):
    path = run.path / "videos" / "job-a.mp4"
    content = path.read_bytes()
    path.unlink()
    measure(run, ["temporal_flickering"])
    measure(run, ["temporal_flickering"])
    assert len(lines(run)) == 2
    path.write_bytes(content)
    measured = measure(run, ["temporal_flickering"])
    assert measured.counts[0].failed == 0
    assert values(run)["temporal_flickering", "vbench", "a"] is not None


def test_a_metric_without_its_weights_says_which_and_the_others_go_on(run):
    measured = measure(run, ["aesthetic_quality", "temporal_flickering"])
    cannot, can = measured.counts
    assert cannot.error.startswith("Needs OpenAI's CLIP ViT-L/14")
    assert "--weights clip-vit-l-14=PATH" in cannot.error
    assert (cannot.measured, cannot.failed, can.measured, can.failed) == (0, 2, 2, 0)
    rows = [row for row in run.metrics() if row.metric == "aesthetic_quality"]
    assert all(row.settings == NOT_LOADED and row.error == cannot.error for row in rows)


def test_weights_by_path_are_used_and_noted(run, weights):
    head = {"clip-vit-l-14": weights["clip-vit-l-14"], "aesthetic-head": weights["aesthetic-head"]}
    measured = measure(run, ["aesthetic_quality"], sources=head)
    assert measured.counts[0].measured == 2
    (settings,) = json.loads((run.path / "metric-settings.json").read_text()).values()
    assert settings["weights"]["aesthetic-head"] == footage_module.sha256_of_file(weights["aesthetic-head"])


def test_other_weights_are_other_settings(run, weights, tmp_path):
    from metric_models import save_clip

    for folder in (weights["clip-vit-b-32"], save_clip(tmp_path / "clip", patch=28)):
        measure(run, ["background_consistency"], sources={"clip-vit-b-32": folder})
    rows = [row for row in run.metrics() if row.sample == "a"]
    assert len({row.settings for row in rows}) == 2
    assert len({row.value for row in rows}) == 2


def test_a_path_that_does_not_exist_is_said(run):
    measured = measure(run, ["aesthetic_quality"], sources={"clip-vit-l-14": "no/such/folder"})
    assert "'no/such/folder' is no path here" in measured.counts[0].error


def test_a_value_that_is_no_number_is_an_error(run, weights, tmp_path):
    import torch

    torch.save({"weight": torch.full((1, 16), float("nan")), "bias": torch.zeros(1)}, tmp_path / "head.pth")
    sources = {"clip-vit-l-14": weights["clip-vit-l-14"], "aesthetic-head": tmp_path / "head.pth"}
    measure(run, ["aesthetic_quality"], sources=sources)
    assert {row.error for row in run.metrics()} == {
        "The value is not a finite number; check the weights and the video."
    }


def test_too_few_frames_are_recorded(tmp_path):
    run = save_run(tmp_path / "run", {"one": moving_square(1), "two": moving_square(2, step=0)})
    measure(run)
    assert values(run) == {
        ("temporal_flickering", "vbench", "one"): None,
        ("temporal_flickering", "vbench", "two"): pytest.approx(1.0, abs=0.01),
        ("dynamic_degree_dis", "vbench", "one"): 0.0,
        ("dynamic_degree_dis", "vbench", "two"): 1.0,  # VBench's quirk: no pair need move
    }
    measure(run, ["dynamic_degree_dis"], "native")
    assert values(run)["dynamic_degree_dis", "native", "one"] is None
    assert values(run)["dynamic_degree_dis", "native", "two"] == 0.0


def test_released_stretches_all_to_the_first_videos_shape(tmp_path):
    run = save_run(tmp_path / "run", {"a": moving_square(3), "b": moving_square(3, height=96, width=64)})
    measure(run, ["dynamic_degree_dis"], "released")
    assert {row.details["threshold"] for row in run.metrics()} == {
        6 * 340 / 256
    }  # 512 x 341 less the odd row, upright or not
    (settings,) = json.loads((run.path / "metric-settings.json").read_text()).values()
    assert settings["ratio"] == [3, 2]


def test_another_ratio_is_another_setting(run):
    measure(run, ["temporal_flickering"], "released")
    measure(run, ["temporal_flickering"], "released", ratio=(1, 1))
    assert len({row.settings for row in run.metrics()}) == 2


def test_a_ratio_without_the_released_protocol_is_refused(run):
    with pytest.raises(InputError, match="goes with the protocol released, not 'vbench'"):
        measure(run, ratio=(1, 1))


def test_a_device_that_does_not_exist_is_refused_before_anything_is_measured(run):
    with pytest.raises(InputError, match="abacus"):
        measure_run(run, ["temporal_flickering"], sources={}, device="abacus")
    assert not (run.path / "metrics.jsonl").exists()


def test_an_unknown_metric_is_refused_with_the_known_ones(run):
    with pytest.raises(InputError, match="'beauty' does not exist; choose from aesthetic_quality, background"):
        measure(run, ["beauty"])


def test_weights_that_no_metric_needs_are_refused(run):
    with pytest.raises(InputError, match="'rafft' is not among the weights of these metrics; they need: raft"):
        measure(run, ["dynamic_degree"], sources={"rafft": "x"})


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        measure(RunFolder(tmp_path))


def test_a_row_killed_in_its_middle_is_measured_again(run):
    measure(run, ["temporal_flickering"])
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    measure(run, ["temporal_flickering"])
    assert len(list(records.read_rows(path, records.MetricRecord))) == 2
    assert np.isfinite(list(values(run).values())).all()
