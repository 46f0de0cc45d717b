import math
from importlib.metadata import EntryPoint

import pytest

from alignvid.errors import InputError
from alignvid.plugins import load_plugin


def load(value):
    return load_plugin(EntryPoint("mine", value, "alignvid.metrics"), "pi", "number", InputError)


def test_a_module_is_asked_for_the_attribute_and_an_object_is_named_whole():
    assert (load("math"), load("math:tau")) == (math.pi, math.tau)


@pytest.mark.parametrize(
    ("value", "reason", "remedy"),
    [
        ("no_such_module", "No module named 'no_such_module'", "no_such_module must be a module with a pi"),
        ("json", "has no attribute 'pi'", "json must be a module with a pi"),
        ("json:pi", "has no attribute 'pi'", "json must be a module with a pi"),
    ],
)
def test_a_broken_one_is_named_with_its_package_and_the_remedy(value, reason, remedy):
    with pytest.raises(InputError, match=rf"The number 'mine' of the package .*{reason}.*{remedy}; mend or uninstall"):
        load(value)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def broken(:", r"SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines.')", r"ValueError: two lines\. "),
        ("1 / 0", r"ZeroDivisionError: division by zero\. "),
        ("assert False", r"AssertionError\. "),
    ],
)
def test_one_whose_import_fails_in_any_way_is_one_sentence(tmp_path, monkeypatch, code, reason):
    (tmp_path / "fails_at_import.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=rf"The number 'mine' .*cannot be loaded: {reason}") as error:
        load("fails_at_import")
    assert "\n" not in str(error.value)
