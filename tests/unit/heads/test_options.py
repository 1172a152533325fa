"""The options that all heads share."""

import pytest

from facerec.heads.combined import MarginHead
from facerec.heads.options import with_defaults


def test_defaults_stand_for_what_is_not_given():
    given = with_defaults({"num_classes": 10, "scale": 32.0})
    assert (given["scale"], given["embedding_dim"], given["engine"]) == (32.0, 512, "auto")


def test_unknown_and_absent_options_are_refused_as_a_signature_would():
    with pytest.raises(TypeError, match=r"'num_clases'; they take num_classes, .*, learn_scale"):
        MarginHead(num_classes=10, num_clases=10)
    with pytest.raises(TypeError, match="num_classes"):
        MarginHead(embedding_dim=4)
