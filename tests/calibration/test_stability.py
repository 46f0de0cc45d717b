import pytest
from click.testing import CliRunner

from alignvid.calibration.stability import main


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pairs are few", "ignore:Every block has")
def test_two_sets_of_scenes_are_ranked_and_the_weights_named(tmp_path):
    done = CliRunner().invoke(main, ["--out", str(tmp_path), "--count", "2"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "transformer sha256 " in done.output
    assert done.output.count("\nblock ") == 6
    assert -1 <= float(done.output.rsplit("sets 0 and 1: ", 1)[1]) <= 1
    assert {path.name for path in tmp_path.glob("*.toml")} == {"set-0.toml", "set-1.toml"}
