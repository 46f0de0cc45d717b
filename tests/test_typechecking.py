import jaxtyping
import pytest
import torch

from alignvid.attachment.effects.scalar import KeyGain


def test_a_tensor_of_the_wrong_shape_is_refused_in_every_test():
    gain = KeyGain([2.0], ["video"], 1)
    with pytest.raises(jaxtyping.TypeCheckError, match="keys"):
        gain.scaled(torch.tensor(1.0))


def test_type_checks_can_be_switched_off_for_one_test(unchecked_types):
    gain = KeyGain([2.0], ["video"], 1)
    gain.set_active(True)
    assert gain.scaled(torch.tensor(1.0)) == 2.0
