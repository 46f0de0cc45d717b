from importlib.metadata import PackageNotFoundError

from alignvid import doctor


def test_a_complete_installation_is_ready():
    checks = doctor.examine()
    assert {"python", "torch", "diffusers", "H.264", "miniature", "device", "attention native"} <= {
        c.name for c in checks
    }
    assert doctor.is_ready(checks)


def test_what_is_missing_comes_with_the_line_that_installs_it(monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    missing = [check for check in doctor.examine() if check.text == "missing"]
    assert "pip install diffusers" in {check.remedy for check in missing}
    assert not doctor.is_ready(missing)


def test_a_missing_option_does_not_make_it_unready():
    optional = doctor.Check("attention flash", False, "not installed", "pip install flash-attn", is_required=False)
    assert doctor.is_ready([optional])
