"""The layouts of the golden files, by backbone."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from isolator_jax import scoring
from isolator_jax.backbones import Batch, Score
from isolator_jax.content import Content
from isolator_jax.training import make_score


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
            "preference/0": "v_gcn.preference",
            "preference/1": "t_gcn.preference",
            "content/0/weight": "v_gcn.MLP.weight",
            "content/0/bias": "v_gcn.MLP.bias",
            "content/1/weight": "t_gcn.MLP.weight",
            "content/1/bias": "t_gcn.MLP.bias",
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
