"""Every public name is documented, and the examples in the docstrings run and show what is true."""

import doctest
import sys
from types import GenericAlias, UnionType

import pytest

import isolator_jax

PUBLIC = {name: getattr(isolator_jax, name) for name in isolator_jax.__all__}
TYPES = {name for name, thing in PUBLIC.items() if isinstance(thing, type) and not isinstance(thing, GenericAlias)}
# Neither are names of several types, and the version.
FUNCTIONS = sorted(name for name, thing in PUBLIC.items() if name not in TYPES and hasattr(thing, "__module__"))
FUNCTIONS = [name for name in FUNCTIONS if not isinstance(PUBLIC[name], GenericAlias | UnionType)]


def examples_of(name):
    thing = PUBLIC[name]
    module = vars(sys.modules[thing.__module__])
    return [test for test in doctest.DocTestFinder().find(thing, name, globs=module) if test.examples]


def test_every_public_name_is_documented():
    for name in [*FUNCTIONS, *TYPES]:
        assert PUBLIC[name].__doc__ and PUBLIC[name].__module__.startswith("isolator_jax."), name


@pytest.mark.parametrize("name", [*FUNCTIONS, "Histories"])
def test_the_examples_of_a_public_name_show_what_is_true(name):
    examples = examples_of(name)
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
