"""Test the names of intermediates."""

import pytest

from vosmodels.errors import InputError
from vosmodels.support.watching import resolve

THREE = tuple(f"{attention}.id.{n}" for n in (1, 2, 3) for attention in ("long", "self"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("self.id.2", "self.id.2"), ("self.id.-1", "self.id.3"), ("long.id.-3", "long.id.1")],
)
def test_a_layer_is_counted_from_one_or_from_the_end(name, meant):
    assert resolve(name, THREE) == meant


def test_layers_are_ordered_by_number():
    assert resolve("self.id.-1", [f"self.id.{n}" for n in (10, 9, 2)]) == "self.id.10"


@pytest.mark.parametrize(
    "name", ["self.id.4", "self.id.-4", "self.weights.-1", "id.1", "self.id.0"]
)
def test_a_name_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(InputError, match=f"no intermediate '{name}'; there are long.id.1, self"):
        resolve(name, THREE)
    with pytest.raises(InputError, match=f"no intermediate '{name}'; there is none"):
        resolve(name, ())
