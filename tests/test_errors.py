from alignvid.errors import InputError, is_interrupt


def raised_while_handling(first: BaseException, second: Exception) -> Exception:
    try:
        try:
            raise first
        except BaseException:
            raise second  # noqa: B904  # as a library does
    except Exception as error:
        return error


def test_an_error_that_a_library_raised_while_it_cleaned_up_after_ctrl_c_is_an_interrupt():
    unwound = raised_while_handling(KeyboardInterrupt(), RuntimeError("trying to pop from empty mode stack"))
    retold = raised_while_handling(unwound, InputError("The model is damaged."))

    assert is_interrupt(KeyboardInterrupt())
    assert is_interrupt(unwound)
    assert is_interrupt(retold)


def test_an_error_of_another_cause_is_no_interrupt_and_a_circle_of_causes_ends():
    one, two = raised_while_handling(ValueError("no"), InputError("no")), ValueError("yes")
    one.__cause__, two.__cause__ = two, one

    assert not is_interrupt(one)
    assert not is_interrupt(None)
