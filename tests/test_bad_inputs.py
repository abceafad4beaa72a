"""One table over the public functions: what each takes, what it refuses; the form of the input does not matter.

`GOOD` has the arguments of a right call of each function; `BAD` has changes of them, each with
words that the refusal must hold. A new public function needs an entry in both, or a reason in `ELSEWHERE`.
"""

import functools
import importlib
import inspect
import re
import types
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from isolator_jax import (
    Histories,
    UParameters,
    _public,
    bootstrap_ucbias,
    evaluate,
    evaluate_lists,
    evaluate_settings,
    make_content,
    rescore,
    rho,
    tune,
    u_score,
    ucbias,
)
from isolator_jax import graph as graphs
from isolator_jax.errors import DataError
from isolator_jax.neighbours import Neighbours
from tests.bad_arguments import OF_EVALUATION, OF_MODELS, OF_PRIMITIVES
from tests.public_functions import (
    BOTH,
    CONTENT,
    EVALUATION,
    FEATURES,
    GOOD,
    GRID,
    GROUPS,
    HISTORIES,
    MODEL,
    OTHER,
    PARAMETERS,
    PRIMITIVES,
    TRUTH,
    USERS,
    C,
    F,
    I,
    S,
    U,
)

BAD = OF_PRIMITIVES + [(name, change, rf"\b{re.escape(named)}") for name, change, named in OF_EVALUATION + OF_MODELS]


def bare(function):
    """The function itself, of a method or of what is compiled."""
    return inspect.unwrap(getattr(function, "__func__", function))


def functions_of(module):
    """The functions that a module exports by `__all__`, or else those that it defines under names without a dash."""
    exported = getattr(module, "__all__", None)
    named = {name: getattr(module, name) for name in exported or vars(module) if not name.startswith("_")}
    return {
        name: bare(x)
        for name, x in named.items()
        if isinstance(bare(x), types.FunctionType) and (exported or bare(x).__module__ == module.__name__)
    }


# Where public functions are; what a package does not export is its own affair.
MODULES = ("", ".evaluation", ".data", ".backbones", ".training", ".runs", ".scoring", ".features", ".consistency",
    ".content", ".histories", ".similarity", ".losses", ".graph", ".neighbours", ".strategies", ".devices.ranking",
    ".devices.mesh", ".evaluation.rescoring", ".evaluation.significance", ".evaluation.tradeoff")  # fmt: skip
# Public functions that no line of the table is of, by the reason.
ELSEWHERE = {
    "they take nothing": (".vanilla", ".d_isolator", ".strategies.vanilla", ".strategies.d_isolator"),
    "words and numbers alone, refused by ConfigError or KeyError": (
        ".backbones.get_backbone", ".strategies.name_beside_others", ".strategies.strategies_of_run",
        ".devices.mesh.make_mesh",
    ),
    "a decorator of classes": (".backbones.hyperparameters",),
    "files, and what is made to be written to them: tests/data and tests/fuzz": (
        ".data.make_dataset", ".data.read_dataset", ".data.write_dataset",
    ),
    "run folders and what is read from them: tests/runs and tests/fuzz": tuple(
        f".runs.{name}" for name in functions_of(importlib.import_module("isolator_jax.runs"))
    ),
    "the training loop, of what a learner has made": tuple(
        f".training.{name}" for name in functions_of(importlib.import_module("isolator_jax.training"))
    ),
    "checks themselves": (
        ".features.check_channel", ".features.check_rows", ".histories.check_histories", ".histories.check_users",
    ),
    "in the table with its other arguments in place": (".histories.fold_histories", ".losses.frobenius_penalty"),
    "parts of what stands in the table, after its checks": (
        ".features.fuse_normalized", ".features.gram", ".features.normalize_modalities",
        ".consistency.consistency_of_modality", ".consistency.pair_means", ".consistency.rounded",
        ".similarity.build_table", ".similarity.similarity_on_the_fly",
        ".graph.interaction_ids", ".graph.inverse_sqrt",
        ".devices.ranking.build_table_on", ".devices.ranking.place_similarity",
        ".devices.mesh.pad_rows", ".devices.mesh.padded", ".devices.mesh.replicate", ".devices.mesh.put",
        ".devices.mesh.on_host",
    ),
}  # fmt: skip
# Their right calls are compiled; what ranks is run in tests/evaluation and tests/devices.
COMPILED = {
    "top_k_lists", "devices.top_k_lists_on", "evaluate", "evaluate_settings", "rescore", "tune", "mean_recall",
    "count_hits", "devices.count_hits_on", "reference_lists",
}  # fmt: skip

# What works on the host, or has arguments that are no arrays in a way that jit cannot take.
ON_THE_HOST = {
    "Histories.from_pairs", "content_consistency", "build_similarity", "make_content", "neighbours.nearest_neighbours",
    "neighbours.item_graph", "neighbours.unweighted_graph", "neighbours.unite", "neighbours.enhanced_graph",
    "neighbours.user_rows", "graph.make_graph",
    "graph.user_item_block", "graph.bipartite_graph",
}  # fmt: skip
STATIC = {"fusion", "over", "layers", "width", "num_items", "num_users", "num_nodes", "k"}

FORMS = {
    "list": lambda x: x.tolist(),
    "DataFrame": lambda x: pd.DataFrame(x) if x.ndim == 2 else pd.Series(x) if x.ndim == 1 else x,
    "DataFrame of columns of several types": lambda x: pd.DataFrame(x).astype({0: object}) if x.ndim == 2 else x,
    "float64": lambda x: x.astype(np.float64),
    "wider than float64": lambda x: x.astype(np.longdouble),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": lambda x: jnp.asarray(x, jnp.bfloat16),
    "jax": jnp.asarray,
}


def call(name):
    function, arguments = GOOD[name]
    return function(**arguments)


def leaves(result):
    return [np.asarray(x) for x in jax.tree.leaves(result)]


def assert_same(found, expected):
    for actual, wanted in zip(leaves(found), leaves(expected), strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=1e-6, atol=1e-6)


def reformed(arguments, form):
    is_data = lambda x: isinstance(x, np.ndarray | np.generic)
    change = lambda x: FORMS[form](np.asarray(x)) if is_data(x) else x
    return {
        name: value if isinstance(value, Histories | graphs.Graph | Neighbours) else jax.tree.map(change, value)
        for name, value in arguments.items()
    }


def test_every_public_function_is_in_the_table_or_said_to_be_elsewhere():
    assert {name for name, *_ in BAD} == set(GOOD)
    tabled = {bare(function) for function, _ in GOOD.values()}
    public = {
        f"{module}.{name}": function
        for module in MODULES
        for name, function in functions_of(importlib.import_module(f"isolator_jax{module}")).items()
    }
    assert len(public) > 100
    missing = {name for name, function in public.items() if function not in tabled}
    said = {name for names in ELSEWHERE.values() for name in names}
    assert missing == said, missing ^ said


def test_what_refuses_something_says_so():
    refusing = {name for name, *_ in BAD if name in _public.__all__ and name.islower()}
    assert len(refusing) > 25
    assert not {name for name in refusing if "Raises:" not in GOOD[name][0].__doc__}


@pytest.mark.parametrize(
    ("name", "change", "words"), BAD, ids=[f"{number}-{name}-{'-'.join(x)}" for number, (name, x, _) in enumerate(BAD)]
)
def test_bad_inputs_are_refused_by_name(name, change, words):
    function, arguments = GOOD[name]
    with pytest.raises((ValueError, TypeError, DataError)) as caught:
        function(**{**arguments, **change})
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert not re.search("lax\\.|vmap|broadcast|[Tt]racer|NoneType object|operand", message), message


@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_form_of_the_input_does_not_matter(name):
    function, arguments = GOOD[name]
    expected = call(name)
    assert all(x.dtype != np.float64 for x in leaves(expected) if name not in ("content_consistency", "make_content"))
    for form in FORMS:
        assert_same(function(**reformed(arguments, form)), expected)


@pytest.mark.parametrize("name", sorted(EVALUATION.keys() - COMPILED))
def test_what_the_table_changes_is_a_right_call(name):
    call(name)


@pytest.mark.parametrize("name", sorted(set(PRIMITIVES) - ON_THE_HOST))
def test_compiled_calls_equal_plain_ones(name):
    function, arguments = GOOD[name]
    fixed = {key: value for key, value in arguments.items() if key in STATIC}
    traced = {key: value for key, value in arguments.items() if key not in STATIC}
    found = jax.jit(lambda traced: function(**traced, **fixed))(traced)
    assert_same(found, call(name))


# It calls a function of the caller's, which may read what has changed since it was compiled.
COMPILES_ANEW = {"histories.fold_histories"}


@pytest.mark.parametrize("name", sorted(GOOD.keys() - COMPILES_ANEW))
def test_a_second_call_outside_jit_compiles_nothing(name, compilations):
    call(name)
    compilations.clear()
    call(name)
    assert not compilations


@pytest.mark.parametrize("name", ["content_consistency", "Histories.from_pairs", "graph.bipartite_graph"])
def test_host_functions_say_so_under_jit(name):
    function, arguments = GOOD[name]
    first = next(iter(arguments))
    with pytest.raises(TypeError, match=f"{first} has no values yet: this function works on the host"):
        jax.jit(lambda x: function(**{**arguments, first: x}))(arguments[first])


SETTINGS = {
    "strict": lambda: (jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), jax.debug_nans(True)),
    "64 bits": lambda: (jax.enable_x64(True),),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_everything_runs_under_strict_settings(setting):
    expected = {name: call(name) for name in PRIMITIVES}
    with ExitStack() as settings:
        for each in SETTINGS[setting]():
            settings.enter_context(each)
        for name, (function, arguments) in PRIMITIVES.items():
            with_numpy = function(**arguments)
            assert_same(with_numpy, expected[name])
            if setting == "64 bits" and name != "fill_undefined":
                assert_same(function(**reformed(arguments, "float64")), expected[name])


def test_content_is_an_argument_of_compiled_functions():
    content = make_content({"text": FEATURES, "image": OTHER}, HISTORIES, fusion="per_modality")
    read = jax.jit(
        lambda content, users: content.channel_consistency[:, users] + content.similarity.rows(users, 0, 1)[..., 0]
    )
    np.testing.assert_allclose(
        read(content, USERS), content.channel_consistency[:, USERS] + content.similarity.table[:, USERS, 0], rtol=1e-6
    )
    assert list(jax.tree.map(lambda x: x, content).modalities) == ["text", "image"]
    assert len(jax.tree.leaves(content)) == 5


def test_scores_are_mapped_and_differentiated():
    score = functools.partial(u_score, **PARAMETERS)
    whole = score(F, S, C)
    np.testing.assert_allclose(jax.vmap(score, (0, 1, 1))(F, S, C), whole, rtol=1e-6)
    value, slope = jax.jvp(score, (F, S, C), (np.ones_like(F), np.zeros_like(S), np.zeros_like(C)))
    np.testing.assert_allclose(value, whole, rtol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(lambda f: jnp.sum(score(f, S, C)))(F), rtol=1e-6)


def test_nobody_has_empty_results_and_undefined_metrics():
    nobody = np.zeros(0, np.int32)
    results = evaluate_lists({"m": np.zeros((0, 20), int)}, nobody, HISTORIES, TRUTH, CONTENT, ks=(1,))["m"]
    assert results.lists.shape == (0, 20) and all(map(np.isnan, results.metrics.values()))
    ranked_by = evaluate(MODEL, [], HISTORIES, BOTH, CONTENT, truth=TRUTH, ks=(1,))["u"]
    assert ranked_by.per_user["recall@1"].shape == (0,) and np.isnan(ranked_by.metrics["rho"])
    assert np.isnan(evaluate_settings(MODEL, [], HISTORIES, GRID, CONTENT, truth=TRUTH)["recall@10"]).all()
    none = Histories.from_pairs([], [], U)
    rescored = rescore(MODEL, none, make_content({"a": np.eye(I)}, none), UParameters(2.0, 5.0, 0.1), k=3)
    assert rescored.lists["u"].shape == (0, 3)
    assert np.isnan(ucbias([], [], GROUPS)) and np.isnan(rho(np.ones((0, 2)), np.ones((0, 2), int)))
    assert all(map(np.isnan, bootstrap_ucbias([], [], GROUPS)))
    assert tune(MODEL, HISTORIES, none, CONTENT, GRID)[0] is None
