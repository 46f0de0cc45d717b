from alignvid.generate import generate, load_model, run_jobs
from alignvid.generate.jobs import Job
from alignvid.generate.loading import find_model
from alignvid.generate.progress import Progress, steps_reported
from pipelines import wan_i2v


def test_every_stage_and_step_of_a_comparison_is_reported_in_order(i2v_spec, tmp_path):
    seen = []
    generate(i2v_spec, tmp_path, compare=True, on_progress=seen.append)
    of_role = [
        [*(Progress("steps", role, done, 2) for done in (0, 1, 2)), Progress("decoding", role)]
        for role in ("baseline", "alignvid")
    ]
    assert seen == [Progress("loading"), *of_role[0], *of_role[1], Progress("encoding")]


def test_a_plan_is_given_once_before_anything_is_loaded(i2v_spec, tmp_path):
    order = []
    planned = generate(
        i2v_spec, tmp_path, on_plan=order.append, on_progress=lambda progress: order.append(progress.stage)
    )
    plan, first, *_ = order
    assert first == "loading" and planned.record.attachment["name"] == plan.choice.preset == "generic:generic"
    assert plan.lines()["steps"] == "2; guidance 5; seed 0"


def test_jobs_say_their_choice_once_and_not_at_all_if_nothing_runs(i2v_spec, tmp_path):
    said = []
    jobs = [Job("a", i2v_spec), Job("b", i2v_spec)]
    run_jobs(jobs, tmp_path, on_choice=said.append)
    assert [list(lines) for lines in said] == [["model", "preset", "strength", "where", "when"]]
    run_jobs(jobs, tmp_path, on_choice=said.append)
    assert len(said) == 1


def test_a_loop_over_the_bar_itself_is_reported_too():
    pipe, seen = wan_i2v()[0], []
    with steps_reported(pipe, "alignvid", 3, seen.append):
        for _ in pipe.progress_bar([7, 8, 9]):
            pass
    assert [progress.done for progress in seen] == [0, 1, 2, 3, 0]
    assert seen[-1].stage == "decoding"


def test_the_pipeline_has_its_own_bar_back_afterwards(i2v_spec, tmp_path):
    model = load_model(find_model(i2v_spec.model), i2v_spec, show_progress=False)
    generate(i2v_spec, tmp_path, model=model)
    assert "progress_bar" not in vars(model.pipeline)
