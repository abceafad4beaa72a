"""Which of the paper's claims hold on trained models of one dataset, and whether chance may explain it.

Each claim is a set of comparisons of two numbers, a model or a pair of models each. A comparison's
verdict is one of `VERDICTS`. The paper makes its claims on D, U and the training strategy for the
multi-modal models: backbones that use no content are counterparts, and counted nowhere else.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy

from isolator_jax.evaluation import Groups
from isolator_jax.evaluation.significance import holm, paired_test
from isolator_jax.reporting.activity import equal_activity
from isolator_jax.reporting.model import (
    RECALL,
    RHO,
    SHARES,
    SIGNIFICANT,
    Measured,
    Model,
    measured,
    measured_biases,
    share_groups,
    tied_columns,
)
from isolator_jax.reporting.resampling import two_sided_p
from isolator_jax.reporting.tables import strategy_label
from isolator_jax.strategies import STRATEGIES

VERDICTS = ("holds beyond noise", "sign only", "against", "against beyond noise", "undefined")

VANILLA, U_WITHOUT_TS, TS, D, U = STRATEGIES
P_VALUES = ("p over users", "p over seeds", "p over models")

Biases = Mapping[tuple[str, str], Measured]


class Claim(NamedTuple):
    """What is claimed: the subject's number is higher than the other's.

    Attributes:
      section: of the paper, and the artefact that shows it.
      text: the claim.
      lower: whether it is lower instead.
      size: whether sizes are compared (UCBias: of -.03 and +.01 the second is the smaller bias).
    """

    section: str
    text: str
    lower: bool = False
    size: bool = False


def claims(models: Sequence[Model], of_modalities: Sequence[Model] = ()) -> pd.DataFrame:
    """Every claim of Sec. 3.3 to 3.5 and 5.1 to 5.4 that the models can be held to.

    The tests are two-sided: the paired t-test over users (values averaged over the seeds) for
    Recall@20, the bootstrap over users, groups kept, for UCBias, the paired t-test over seeds for
    both and for rho, and the permutation test of Pearson's r over models for the correlation. The
    p-values of each kind are adjusted by Holm's method over the whole table.

    A comparison's verdict: `holds beyond noise` and `against beyond noise` where the adjusted p
    over users is below 0.05 and the difference has the same sign in every seed; where there is no
    test over users, the adjusted p over seeds (over models, for the correlation) decides. Else
    `sign only` and `against`, by the sign of the difference of the means; equal numbers are
    against a claim of a difference. `undefined` where a number is. A p-value that is undefined is
    never beyond noise.

    Args:
      models: of one dataset, under all strategies.
      of_modalities: the models of Table 3, one backbone on each modality alone and on all
        (the last); without them its claims are left out.

    Returns:
      For each claim a row that counts the verdicts (`case` "all") and a row for each comparison:
      `section`, `claim`, `case`, `subject` and `other` (signed means over the seeds),
      `difference` (of sizes, where those are compared), `verdict`, `test`, `p over users`,
      `p over seeds`, `p over models`, `seeds agreeing` ("2 of 3") and how many users are `tied
      consistent` and `tied diverse`.
    """
    rows = pd.DataFrame(
        [
            *_of_content(models),
            *_of_shares(models),
            *_of_equal_activity(models),
            *_of_strategies(models),
            *_of_modalities(of_modalities),
        ]
    )
    rows = rows.assign(**{name: holm(rows[name]) for name in P_VALUES})
    rows["verdict"] = [_verdict(row) for row in rows.to_dict("records")]
    parts = []
    for (section, claim), cases in rows.groupby(["section", "claim"], sort=False):
        counts = cases["verdict"].value_counts()
        counted = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS if verdict in counts)
        total = {"section": section, "claim": claim, "case": f"all {len(cases)}", "verdict": counted}
        parts += [pd.DataFrame([total]), cases]
    return pd.concat(parts, ignore_index=True)[[*rows.columns]]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `claims` that count its verdicts."""
    return frame[frame["case"].str.startswith("all ")][["section", "claim", "case", "verdict"]]


def _verdict(row: Mapping[str, Any]) -> str:
    if np.isnan(row["difference"]):
        return "undefined"
    deciding = next((row[name] for name in (P_VALUES[0], P_VALUES[2], P_VALUES[1]) if not np.isnan(row[name])), np.nan)
    agreeing, of, seeds = row["seeds agreeing"].partition(" of ")
    beyond = deciding < SIGNIFICANT and agreeing == seeds
    if row["holds"]:
        return "holds beyond noise" if beyond else "sign only"
    return "against beyond noise" if beyond else "against"
