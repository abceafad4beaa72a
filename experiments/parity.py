"""Compares a backbone with a golden file made by an independent implementation.

Loads the file's weights and batch, computes the ISOLATOR training loss, its gradients,
the embeddings and the U-ISOLATOR scores, and prints one JSON line with the error of each:
the maximum over arrays of max|difference| / max(max|reference|, 1e-6). Exits with 1 where
one exceeds 1e-5.

  python -m experiments.parity --backbone=vbpr --golden=VBPR.npz --data_dir=DIR --dataset=small
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from isolator_jax import scoring
from isolator_jax.backbones import BACKBONES, Batch, Score, get_backbone
from isolator_jax.content import Content, make_content
from isolator_jax.data import read_dataset
from isolator_jax.errors import ConfigError, DataError, brief
from isolator_jax.training import make_score

from .common import cli

_BACKBONE = flags.DEFINE_enum("backbone", None, list(BACKBONES), "Backbone to check.", required=True)
_GOLDEN = flags.DEFINE_string("golden", None, "Golden .npz file.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the dataset's folder.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "Dataset the golden file was made on.", required=True)

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class GoldenLayout:
    """How a golden file names what a backbone has.

    Attributes:
      parameters: the file's name for each of our parameters ("a/b" is params["a"]["b"]).
      hyperparameters: the file's name for each hyper-parameter.
      modalities: the order in which the file's model takes them.
      fixed: values of hyper-parameters that the file does not hold.
      score: `(content, gamma, batch) -> Score`, the training score the file was made with.
      u_scores: what the file did to the U scores.
      vanishing: parameters whose gradient is zero in exact arithmetic, so that both files'
        values are rounding noise; their error is taken relative to the largest gradient.
    """

    parameters: Mapping[str, str]
    hyperparameters: Mapping[str, str]
    modalities: tuple[str, ...] = ("image", "text")
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    score: Callable[[Content, float, Batch], Score] = lambda content, gamma, batch: make_score(
        content.similarity, gamma
    )
    u_scores: Callable[[jax.Array], jax.Array] = lambda scores: scores
    vanishing: tuple[str, ...] = ()


def slmrec_score(content: Content, gamma: float, batch: Batch) -> Score:
    """The factors of SLMRec's golden file: off the diagonal, those of (u_b, negative_b).

    That is the wrong pair (it should be (u_a, positive_b)), so the factor is spelt out
    here as a matrix; training uses the exact one.
    """

    def factors(items: jax.Array) -> jax.Array:
        return scoring.content_factor(content.similarity.pairs(batch.users, items), gamma)

    rows = batch.users.shape[0]
    off_diagonal = jnp.broadcast_to(factors(batch.negatives), (rows, rows))
    matrix = jnp.where(jnp.eye(rows, dtype=bool), factors(batch.positives), off_diagonal)
    return lambda f, users, items: scoring.elu_prime(f) * matrix


LAYOUTS = {
    "vbpr": GoldenLayout(
        parameters={
            "user": "u_embedding",
            "item": "i_embedding",
            "projection/weight": "item_linear.weight",
            "projection/bias": "item_linear.bias",
        },
        hyperparameters={"dim": "embedding_size", "reg": "reg_weight"},
        modalities=("text", "image"),
    ),
    "grcn": GoldenLayout(
        parameters={
            "id": "id_gcn.id_embedding",
            "confidence": "model_specific_conf",
            "preference/image": "v_gcn.preference",
            "preference/text": "t_gcn.preference",
            "content/image/weight": "v_gcn.MLP.weight",
            "content/image/bias": "v_gcn.MLP.bias",
            "content/text/weight": "t_gcn.MLP.weight",
            "content/text/bias": "t_gcn.MLP.bias",
        },
        hyperparameters={"dim": "embedding_size", "reg": "reg_weight"},
    ),
    "slmrec": GoldenLayout(
        parameters={
            "user": "embedding_user.weight",
            "item": "embedding_item.weight",
            **{
                f"{ours}/{part}": f"{theirs}.{part}"
                for ours, theirs in {
                    "projection/0": "v_dense",
                    "projection/1": "t_dense",
                    "fuse_user": "embedding_user_after_GCN",
                    "fuse_item": "embedding_item_after_GCN",
                    "merge/0": "g_i_iv",
                    "compare/0": "g_v_iv",
                    "merge/1": "g_iv_iva",
                    "last_merge": "g_iva_ivat",
                    "last_compare": "g_t_ivat",
                }.items()
                for part in ("weight", "bias")
            },
        },
        hyperparameters={
            "dim": "embedding_size",
            "layers": "layer_num",
            "temperature": "temp",
            "contrast": "ssl_alpha",
            "contrast_temperature": "ssl_temp",
        },
        score=slmrec_score,
        u_scores=jax.nn.sigmoid,
        # These biases shift all logits of an InfoNCE row alike, which changes no softmax.
        vanishing=("compare/0/bias", "last_compare/bias"),
    ),
    "mgcn": GoldenLayout(
        parameters={
            "user": "user_embedding.weight",
            "item": "item_id_embedding.weight",
            "features/image": "image_embedding.weight",
            "content/image/projection/weight": "image_trs.weight",
            "content/image/projection/bias": "image_trs.bias",
            "content/image/purifier/weight": "gate_v.0.weight",
            "content/image/purifier/bias": "gate_v.0.bias",
            "content/image/gate/weight": "gate_image_prefer.0.weight",
            "content/image/gate/bias": "gate_image_prefer.0.bias",
            "features/text": "text_embedding.weight",
            "content/text/projection/weight": "text_trs.weight",
            "content/text/projection/bias": "text_trs.bias",
            "content/text/purifier/weight": "gate_t.0.weight",
            "content/text/purifier/bias": "gate_t.0.bias",
            "content/text/gate/weight": "gate_text_prefer.0.weight",
            "content/text/gate/bias": "gate_text_prefer.0.bias",
            "attention/query/weight": "query_common.0.weight",
            "attention/query/bias": "query_common.0.bias",
            "attention/score/weight": "query_common.2.weight",
        },
        hyperparameters={
            "dim": "embedding_size",
            "layers": "n_ui_layers",
            "neighbours": "knn_k",
            "reg": "reg_weight",
            "cl": "cl_loss",
        },
    ),
    "gume": GoldenLayout(
        parameters={
            "user": "user_embedding.weight",
            "item": "item_id_embedding.weight",
            "features/image": "image_embedding.weight",
            "extended/image": "extended_image_user.weight",
            "content/image/projection/weight": "image_reduce_dim.weight",
            "content/image/projection/bias": "image_reduce_dim.bias",
            "content/image/purifier/weight": "image_trans_dim.0.weight",
            "content/image/purifier/bias": "image_trans_dim.0.bias",
            "content/image/gate/weight": "image_behavior.0.weight",
            "content/image/gate/bias": "image_behavior.0.bias",
            "features/text": "text_embedding.weight",
            "extended/text": "extended_text_user.weight",
            "content/text/projection/weight": "text_reduce_dim.weight",
            "content/text/projection/bias": "text_reduce_dim.bias",
            "content/text/purifier/weight": "text_trans_dim.0.weight",
            "content/text/purifier/bias": "text_trans_dim.0.bias",
            "content/text/gate/weight": "text_behavior.0.weight",
            "content/text/gate/bias": "text_behavior.0.bias",
            "attention/query/weight": "separate_coarse.0.weight",
            "attention/query/bias": "separate_coarse.0.bias",
            "attention/score/weight": "separate_coarse.2.weight",
        },
        hyperparameters={
            "dim": "embedding_size",
            "layers": "n_ui_layers",
            "item_layers": "n_layers",
            "neighbours": "knn_k",
            "reg1": "reg_weight_1",
            "reg2": "reg_weight_2",
            "vt": "vt_loss",
            "bm": "bm_loss",
            "bm_temperature": "bm_temp",
            "um": "um_loss",
            "um_temperature": "um_temp",
        },
        fixed={"perturbation": 0.0},
    ),
}


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
    hyperparameters = backbone.hyperparameters(
        **{ours: settings[theirs] for ours, theirs in layout.hyperparameters.items()}, **layout.fixed
    )
    dataset = read_dataset(data_dir, dataset_name, layout.modalities)
    sizes = (golden["user_emb"].shape[0], golden["item_emb"].shape[0])
    if sizes != (dataset.num_users, dataset.num_items):
        raise ConfigError(
            f"the golden file is of {sizes[0]} users and {sizes[1]} items, dataset {dataset_name} has "
            f"{dataset.num_users} and {dataset.num_items}; give the data it was made from"
        )
    content = make_content(dataset.features, dataset.train.histories(dataset.num_users), fusion="per_modality")
    inputs = backbone.prepare(dataset, hyperparameters)
    params = _nest({ours: golden[f"param/{theirs}"] for ours, theirs in layout.parameters.items()})
    batch = Batch(*(jnp.asarray(golden[name], jnp.int32) for name in ("users", "pos", "neg")))

    def loss_function(params):
        encoded = backbone.encode(params, inputs, hyperparameters)
        score = layout.score(content, settings["gamma"], batch)
        loss = backbone.ranking_loss(encoded, batch, score)
        return loss + backbone.auxiliary_loss(params, encoded, batch, hyperparameters, jax.random.key(0))

    loss, gradients = jax.jit(jax.value_and_grad(loss_function))(params)
    encoded = jax.jit(lambda params: backbone.encode(params, inputs, hyperparameters))(params)
    scores = layout.u_scores(_u_scores(encoded, content, settings))
    gradients = _flatten(gradients)
    references = {ours: golden[f"grad/{theirs}"] for ours, theirs in layout.parameters.items()}
    largest = max(float(np.abs(reference).max()) for reference in references.values())
    return {
        "loss": error(loss, golden["loss"]),
        "user_emb": error(encoded.users, golden["user_emb"]),
        "item_emb": error(encoded.items, golden["item_emb"]),
        "u_scores": error(scores, golden["u_scores"]),
        "grad": max(
            error(gradients[ours], references[ours], largest if ours in layout.vanishing else 0.0)
            for ours in layout.parameters
        ),
    }


def error(value: Any, reference: np.ndarray, least_scale: float = 0.0) -> float:
    """max|difference| / max(max|reference|, 1e-6, least_scale)."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    return float(np.max(np.abs(value - reference)) / max(np.max(np.abs(reference)), 1e-6, least_scale))


def _u_scores(encoded, content, settings) -> jax.Array:
    users = jnp.arange(encoded.users.shape[0])
    f = encoded.users @ encoded.items.T
    s = content.similarity.rows(users, 0, encoded.items.shape[0])

    def score(f: jax.Array, s: jax.Array, c: jax.Array) -> jax.Array:
        return scoring.u_score(f, s, c, settings["alpha"], settings["beta"], settings["gamma_infer"])

    return jax.vmap(jax.vmap(score, (0, 1, None)), (0, 1, 1))(f, s, content.channel_consistency)


def _nest(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = jnp.asarray(value)
    return nested


def _flatten(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(part.key) for part in path): leaf for path, leaf in leaves}


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
    print(json.dumps(errors))
    if not all(value <= TOLERANCE for value in errors.values()):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
