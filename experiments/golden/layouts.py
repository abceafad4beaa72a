"""The layouts of the golden files, by backbone."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax import scoring
from isolator_jax.backbones import Batch, Score, freedom
from isolator_jax.backbones.base import Inputs
from isolator_jax.content import Content
from isolator_jax.data import Dataset
from isolator_jax.training import make_score


@dataclasses.dataclass(frozen=True)
class GoldenLayout:
    """How a golden file names what a backbone has.

    Attributes:
      parameters: the file's name for each of our parameters ("a/b" is params["a"]["b"]).
      hyperparameters: the file's name for each hyper-parameter, or names of one by modality.
      modalities: the order in which the file's model takes them.
      fixed: values of hyper-parameters that the file does not hold.
      score: `(content, gamma, batch) -> Score`, the training score the file was made with.
      u_scores: what the file did to the U scores.
      vanishing: parameters whose gradient is zero in exact arithmetic, so that both files'
        values are rounding noise; their error is taken relative to the largest gradient.
      zero: parameters whose gradient is nothing but such noise; what must be below 1e-8 is its size.
      least_scale: the smallest scale of a gradient's error, as a share of the file's largest gradient.
      precision: what the file's gradients are good to where that is worse than 1e-5; their
        errors count in proportion.
      oriented: what makes our arrays of the file's where the shapes differ, by parameter.
      trained_on: `(inputs, dataset, golden) -> inputs`, what the loss and gradients were made on.
    """

    parameters: Mapping[str, str]
    hyperparameters: Mapping[str, str | tuple[str, ...]]
    modalities: tuple[str, ...] = ("image", "text")
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    score: Callable[[Content, float, Batch], Score] = lambda content, gamma, batch: make_score(
        content.similarity, gamma
    )
    u_scores: Callable[[jax.Array], jax.Array] = lambda scores: scores
    vanishing: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    least_scale: float = 0.0
    precision: Mapping[str, float] = dataclasses.field(default_factory=dict)
    oriented: Mapping[str, Callable[[np.ndarray], np.ndarray]] = dataclasses.field(default_factory=dict)
    trained_on: Callable[[Inputs, Dataset, Mapping[str, np.ndarray]], Inputs] = lambda inputs, dataset, golden: inputs


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


def freedom_inputs(inputs: Inputs, dataset: Dataset, golden: Mapping[str, np.ndarray]) -> Inputs:
    """The graph of the interactions that the file has kept."""
    numbers = lambda users, items: np.asarray(users, np.int64) * dataset.num_items + items
    kept_numbers = numbers(golden["kept_users"], golden["kept_items"])
    kept = np.isin(numbers(dataset.train.users, dataset.train.items), kept_numbers)
    return freedom.prune(inputs, jnp.asarray(kept), int(kept.sum()))


def dense(layers: Mapping[str, str], parts: tuple[str, ...] = ("weight", "bias")) -> dict[str, str]:
    """The file's names of dense layers' parts, from those of the layers."""
    return {f"{ours}/{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in parts}


LAYOUTS = {
    "vbpr": GoldenLayout(
        parameters={
            "user": "u_embedding",
            "item": "i_embedding",
            **dense({"projection": "item_linear"}),
        },
        hyperparameters={"dim": "embedding_size", "reg": "reg_weight"},
        modalities=("text", "image"),
    ),
    "grcn": GoldenLayout(
        parameters={
            "id": "id_gcn.id_embedding",
            "confidence": "model_specific_conf",
            "preference/0": "v_gcn.preference",
            "preference/1": "t_gcn.preference",
            **dense({"content/0": "v_gcn.MLP", "content/1": "t_gcn.MLP"}),
        },
        hyperparameters={"dim": "embedding_size", "reg": "reg_weight"},
    ),
    "slmrec": GoldenLayout(
        parameters={
            "user": "embedding_user.weight",
            "item": "embedding_item.weight",
            **dense(
                {
                    "projection/0": "v_dense",
                    "projection/1": "t_dense",
                    "fuse_user": "embedding_user_after_GCN",
                    "fuse_item": "embedding_item_after_GCN",
                    "merge/0": "g_i_iv",
                    "compare/0": "g_v_iv",
                    "merge/1": "g_iv_iva",
                    "last_merge": "g_iva_ivat",
                    "last_compare": "g_t_ivat",
                }
            ),
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
            "features/text": "text_embedding.weight",
            "attention/score/weight": "query_common.2.weight",
            **dense(
                {
                    "content/image/projection": "image_trs",
                    "content/image/purifier": "gate_v.0",
                    "content/image/gate": "gate_image_prefer.0",
                    "content/text/projection": "text_trs",
                    "content/text/purifier": "gate_t.0",
                    "content/text/gate": "gate_text_prefer.0",
                    "attention/query": "query_common.0",
                }
            ),
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
            "features/text": "text_embedding.weight",
            "extended/text": "extended_text_user.weight",
            "attention/score/weight": "separate_coarse.2.weight",
            **dense(
                {
                    "content/image/projection": "image_reduce_dim",
                    "content/image/purifier": "image_trans_dim.0",
                    "content/image/gate": "image_behavior.0",
                    "content/text/projection": "text_reduce_dim",
                    "content/text/purifier": "text_trans_dim.0",
                    "content/text/gate": "text_behavior.0",
                    "attention/query": "separate_coarse.0",
                }
            ),
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
    "freedom": GoldenLayout(
        parameters={
            "user": "user_embedding.weight",
            "item": "item_id_embedding.weight",
            "features/image": "image_embedding.weight",
            "features/text": "text_embedding.weight",
            **dense({"projection/image": "image_trs", "projection/text": "text_trs"}),
        },
        hyperparameters={
            "dim": "embedding_size",
            "layers": "n_ui_layers",
            "item_layers": "n_mm_layers",
            "neighbours": "knn_k",
            "image_weight": "mm_image_weight",
            "dropout": "dropout",
            "reg": "reg_weight",
        },
        # A bias shifts the scores of positive and negative alike.
        zero=("projection/image/bias", "projection/text/bias"),
        least_scale=1e-3,
        trained_on=freedom_inputs,
    ),
    "smore": GoldenLayout(
        parameters={
            "user": "user_embedding.weight",
            "item": "item_id_embedding.weight",
            "features/image": "image_embedding.weight",
            "features/text": "text_embedding.weight",
            "content/image/spectrum": "image_complex_weight",
            "content/text/spectrum": "text_complex_weight",
            "fusion/spectrum": "fusion_complex_weight",
            **dense(
                {
                    "content/image/projection": "image_trs",
                    "content/image/purifier": "gate_v.0",
                    "content/image/gate": "gate_image_prefer.0",
                    "content/image/query": "query_v.0",
                    "content/text/projection": "text_trs",
                    "content/text/purifier": "gate_t.0",
                    "content/text/gate": "gate_text_prefer.0",
                    "content/text/query": "query_t.0",
                    "fusion/purifier": "gate_f.0",
                    "fusion/gate": "gate_fusion_prefer.0",
                }
            ),
            **dense({"content/image/score": "query_v.2", "content/text/score": "query_t.2"}, ("weight",)),
        },
        hyperparameters={
            "dim": "embedding_size",
            "layers": "n_ui_layers",
            "item_layers": "n_layers",
            "neighbours": ("image_knn_k", "text_knn_k"),
            "dropout": "dropout_rate",
            "norm_batch": "batch_size",
            "reg": "reg_weight",
            "cl": "cl_loss",
        },
        least_scale=1e-3,
        oriented={f"{part}/spectrum": np.squeeze for part in ("content/image", "content/text", "fusion")},
    ),
    "lgmrec": GoldenLayout(
        parameters={
            "user": "user_embedding.weight",
            "item": "item_id_embedding.weight",
            "content/0/projection/weight": "item_image_trs",
            "content/0/hyperedges/weight": "v_hyper",
            "content/1/projection/weight": "item_text_trs",
            "content/1/hyperedges/weight": "t_hyper",
        },
        hyperparameters={
            "dim": "embedding_size",
            "layers": "n_ui_layers",
            "content_layers": "n_mm_layers",
            "hyperedges": "hyper_num",
            "hyper_layers": "n_hyper_layer",
            "keep_rate": "keep_rate",
            "global_weight": "global_weight",
            "cl": "cl_weight",
            "reg": "reg_weight",
        },
        least_scale=1e-3,
        precision={"content/0/hyperedges/weight": 5e-5},  # float32 logits near 460
        oriented={
            f"content/{m}/{layer}/weight": np.transpose for m in (0, 1) for layer in ("projection", "hyperedges")
        },
    ),
}
