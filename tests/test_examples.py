"""Every public name is documented, and the examples in the docstrings run and show what is true."""

import doctest
import inspect
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import isolator_jax

PUBLIC = {name: getattr(isolator_jax, name) for name in isolator_jax.__all__ if name != "__version__"}
FUNCTIONS = sorted(name for name, thing in PUBLIC.items() if inspect.isroutine(thing))
CLASSES = sorted(name for name, thing in PUBLIC.items() if inspect.isclass(thing))  # the rest are names of unions


def examples_of(name):
    thing = PUBLIC[name]
    module = {"np": np, "jnp": jnp, **PUBLIC, **vars(sys.modules[thing.__module__])}
    return [test for test in doctest.DocTestFinder().find(thing, name, globs=module) if test.examples]


def test_every_public_name_is_documented():
    assert len(CLASSES) > 5 and len(FUNCTIONS) > 30
    for thing in map(PUBLIC.get, [*CLASSES, *FUNCTIONS]):
        assert thing.__doc__ and thing.__module__.startswith("isolator_jax."), thing


@pytest.mark.parametrize("name", [*FUNCTIONS, "Histories"])
def test_the_examples_of_a_public_name_show_what_is_true(name):
    examples = examples_of(name)
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
