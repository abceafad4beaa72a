"""Compares a backbone with a golden file made by an independent implementation.

Loads the file's weights and batch, computes the ISOLATOR training loss, its gradients,
the embeddings and the U-ISOLATOR scores, and prints one JSON line with the error of each:
the maximum over arrays of max|difference| / max(max|reference|, 1e-6), or on the scale that
the file's layout (`experiments.golden`) gives an array. Exits with 1 where one exceeds 1e-5.

  isolator parity --backbone=vbpr --golden=VBPR.npz --data_dir=DIR --dataset=small
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict

from isolator_jax import scoring
from isolator_jax.backbones import BACKBONES, Batch, Encoded, get_backbone
from isolator_jax.backbones.base import Params
from isolator_jax.content import Content, make_content
from isolator_jax.data import read_dataset
from isolator_jax.errors import ConfigError, DataError, brief
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.precision import in_float32

from .common import cli
from .golden import LAYOUTS, GoldenLayout

_BACKBONE = flags.DEFINE_enum("backbone", None, list(BACKBONES), "Backbone to check.", required=True)
_GOLDEN = flags.DEFINE_string("golden", None, "Golden .npz file.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the dataset's folder.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "Dataset the golden file was made on.", required=True)

TOLERANCE = 1e-5

# Of a golden file's hparams, those that are no backbone's.
_OF_STRATEGIES = ("gamma", "alpha", "beta", "gamma_infer")

# What is zero in exact arithmetic must be below this.
ZERO = 1e-8


def compare(backbone_name: str, golden: Mapping[str, np.ndarray], data_dir: str, dataset_name: str) -> dict[str, float]:
    """Errors of loss, embeddings, U scores and gradients against the golden arrays.

    Raises:
      ConfigError: no golden layout is known for the backbone, or the file is of other data.
      DataError: the dataset is malformed.
    """
    if backbone_name not in LAYOUTS:
        raise ConfigError(f"no golden layout for {backbone_name}; known: {', '.join(LAYOUTS)}")
    layout = LAYOUTS[backbone_name]
    backbone = get_backbone(backbone_name)
    try:
        settings = json.loads(str(golden["hparams"]))
    except json.JSONDecodeError as reason:
        raise DataError(f"the golden file's hparams are no JSON ({brief(reason)})") from None
    if not isinstance(settings, dict) or any(isinstance(settings.get(name, 0), str) for name in _OF_STRATEGIES):
        raise DataError("the golden file's hparams are no numbers by name")
    hyperparameters = backbone.hyperparameters(**(_hyperparameters(layout, settings) | dict(layout.fixed)))
    dataset = read_dataset(data_dir, dataset_name, layout.modalities)
    sizes = (len(np.atleast_1d(golden["user_emb"])), len(np.atleast_1d(golden["item_emb"])))
    if sizes != (dataset.num_users, dataset.num_items):
        raise ConfigError(
            f"the golden file is of {sizes[0]} users and {sizes[1]} items, dataset {dataset_name} has "
            f"{dataset.num_users} and {dataset.num_items}; give the data it was made from"
        )
    content = make_content(dataset.features, dataset.train.histories(dataset.num_users), fusion="per_modality")
    inputs = backbone.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)
    arrays = _arrays(layout, golden, "param")
    _refuse_other_shapes(arrays, jax.eval_shape(lambda: backbone.init(jax.random.key(0), dataset, hyperparameters)))
    params = unflatten_dict(jax.tree.map(jnp.asarray, arrays), sep="/")
    trained_on = layout.trained_on(inputs, dataset, golden)
    batch = Batch(*(jnp.asarray(golden[name], jnp.int32) for name in ("users", "pos", "neg")))

    def loss_function(params):
        encoded = backbone.encode(params, trained_on, hyperparameters)
        score = layout.score(content, settings["gamma"], batch)
        return backbone.loss(params, encoded, batch, score, hyperparameters, jax.random.key(0))

    loss, gradients = jax.jit(in_float32(jax.value_and_grad(loss_function)))(params)
    encoded = jax.jit(in_float32(lambda params: backbone.encode(params, inputs, hyperparameters)))(params)
    scores = layout.u_scores(in_float32(_u_scores)(encoded, content, settings))
    return {
        "loss": error(loss, golden["loss"]),
        "user_emb": error(encoded.users, golden["user_emb"]),
        "item_emb": error(encoded.items, golden["item_emb"]),
        "u_scores": error(scores, golden["u_scores"]),
        "grad": gradient_error(layout, flatten_dict(gradients, sep="/"), _arrays(layout, golden, "grad")),
    }


def _refuse_other_shapes(arrays: Mapping[str, np.ndarray], params: Params) -> None:
    for name, expected in flatten_dict(params, sep="/").items():
        if name in arrays and arrays[name].shape != expected.shape:
            raise DataError(
                f"the golden file's parameter {name} has shape {arrays[name].shape}, and should have {expected.shape}"
            )


def gradient_error(layout: GoldenLayout, gradients: Mapping[str, Any], references: Mapping[str, np.ndarray]) -> float:
    """The largest error of a parameter's gradient, on the scale that its layout gives it."""
    largest = max(float(np.abs(reference).max()) for reference in references.values())

    def error_of(name: str) -> float:
        if name in layout.zero:
            return float(np.abs(gradients[name]).max()) * TOLERANCE / ZERO
        least = largest * (1 if name in layout.vanishing else layout.least_scale)
        return error(gradients[name], references[name], least) * TOLERANCE / layout.precision.get(name, TOLERANCE)

    return float(np.max([error_of(name) for name in layout.parameters]))  # NaN where one is


def error(value: Any, reference: np.ndarray, least_scale: float = 0.0) -> float:
    """max|difference| / max(max|reference|, 1e-6, least_scale)."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    return float(np.max(np.abs(value - reference)) / max(np.max(np.abs(reference)), 1e-6, least_scale))


def _hyperparameters(layout: GoldenLayout, settings: Mapping[str, Any]) -> dict[str, Any]:
    def value(names: str | tuple[str, ...]) -> Any:
        return settings[names] if isinstance(names, str) else tuple(settings[name] for name in names)

    return {ours: value(theirs) for ours, theirs in layout.hyperparameters.items()}


def _arrays(layout: GoldenLayout, golden: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The file's parameters (`param`) or gradients (`grad`) by our names, in our shapes."""
    return {
        ours: layout.oriented.get(ours, np.asarray)(golden[f"{kind}/{theirs}"])
        for ours, theirs in layout.parameters.items()
    }


def _u_scores(encoded: Encoded, content: Content, settings: Mapping[str, float]) -> jax.Array:
    users = jnp.arange(encoded.users.shape[0])
    f = encoded.users @ encoded.items.T
    s = content.similarity.rows(users, jnp.int32(0), encoded.items.shape[0])
    c = content.channel_consistency[:, :, None]
    return scoring.u_score(f, s, c, settings["alpha"], settings["beta"], settings["gamma_infer"])


def read_golden(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a golden file.

    Raises:
      DataError: not a readable `.npz` archive of arrays.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with np.load(path, allow_pickle=False) as golden:
            return {name: golden[name] for name in golden}
    except Exception as error:  # of many types, from zip files to numpy headers
        raise DataError(f"{path}: not a readable .npz archive ({brief(error)})") from None


def main() -> None:
    golden = read_golden(Path(_GOLDEN.value))
    try:
        errors = compare(_BACKBONE.value, golden, _DATA_DIR.value, _DATASET.value)
    except KeyError as error:
        raise DataError(f"{_GOLDEN.value}: has no {error}; it is no golden file of {_BACKBONE.value}") from None
    print(json.dumps({name: None if np.isnan(value) else value for name, value in errors.items()}))
    if not all(value <= TOLERANCE for value in errors.values()):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
