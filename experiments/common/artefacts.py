"""Makes the paper's tables and figures from trained models, and writes them."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from isolator_jax.errors import ConfigError
from isolator_jax.evaluation.metrics import RECALL, UCBIAS
from isolator_jax.files import write_atomically, write_text
from isolator_jax.reporting import claims, paper, paper_tables
from isolator_jax.reporting.model import SHARES, ModelResults, equal_activity_groups
from isolator_jax.reporting.paper_tables import LATEX, MARKDOWN, Marks, Table, tied_note
from isolator_jax.reporting.tables import WIDTH, markdown_table, metric_label, strategy_label
from isolator_jax.reporting.text import markdown, one_line, without_formulas
from isolator_jax.strategies import BASELINE, MAIN, STRATEGIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE3_METRICS = (RECALL, "ndcg@20", UCBIAS)


def check_drawing() -> None:
    """Refuses to go on where figures cannot be drawn.

    Raises:
      ConfigError: matplotlib is missing.
    """
    try:
        import isolator_jax.reporting.paper_figures  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}; the figures need matplotlib: pip install 'isolator-jax[plots]'") from None


class Made(NamedTuple):
    """What is trained and measured of one dataset.

    Attributes:
      models: the backbones; empty where only Table 3 is wanted.
      of_modalities: Table 3's models: one backbone on each modality alone and on all; empty where not wanted.
      references: the reference rankers; empty where not wanted.
    """

    models: Sequence[ModelResults] = ()
    of_modalities: Sequence[ModelResults] = ()
    references: Sequence[ModelResults] = ()


def make(name: str, made: Made, path: Path) -> None:
    """Makes one artefact of one dataset, but for Table 1.

    Args:
      name: of it.
      made: what it is made of.
      path: where to write it, without a suffix.
    """
    models, of_modalities, references = made
    if name == "table2":
        _accuracy(models, path, paper.ACCURACY, {"label": "backbone"})
    elif name == "table3":
        _accuracy(of_modalities, path, TABLE3_METRICS, {"modalities": "modalities"})
    elif name == "claims":
        _claims(models, of_modalities, path)
    elif name == "confounding":
        _confounding(models, references, path)
    else:
        _FIGURES[name](models, path)


def write_statistics(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Table 1, from `dataset_statistics` of each dataset."""
    frame = pd.DataFrame(rows)
    _write_table(path, frame, _plain(frame))


def _accuracy(models: Sequence[ModelResults], path: Path, metrics: Sequence[str], rows: Mapping[str, str]) -> None:
    frame = paper.means(models, MAIN, metrics)
    notes = [
        "± is the standard deviation over the seeds. "
        "Best value of each model bold, second underlined; of UCBias the smallest size is the best. Star: better than "
        "the same model's Vanilla over users (paired t-test, values averaged over the seeds; UCBias: bootstrap of its "
        "size), Holm-adjusted p < 0.05. Dagger: the same over seeds (paired t-test), where there are several. A "
        "difference without a mark may be chance.",
        *([tied_note(frame)] if UCBIAS in metrics else []),
        *_origin(models),
    ]
    _write_table(path, frame, lambda marks: paper_tables.accuracy_table(frame, rows, marks), notes)


def _cuts_of(frame: pd.DataFrame) -> pd.Series:
    """Which groups each claim is of: those of a share, at equal activity, or of Table 3's modalities."""
    named = frame["claim"].str.extract("(groups of .*|equal activity)$", expand=False).fillna("groups of 20 %")
    return named.where(~frame["section"].str.contains("Table 3"), frame["case"])


def _claims(models: Sequence[ModelResults], of_modalities: Sequence[ModelResults], path: Path) -> None:
    frame = claims.claims(models, of_modalities)
    counts = claims.summary(frame)
    notes = [
        "Beyond noise: adjusted p over users and seeds below 0.05 and the same sign in every seed. Where all models "
        "have one seed the p over users decides, which knows nothing of training anew; where no test is over users, "
        "that over seeds or over models. p-values are two-sided and Holm-adjusted over this table, each column by "
        "itself. Of UCBias sizes are compared; its sign is shown.",
        tied_note(frame.assign(where=_cuts_of(frame))),
        "" if of_modalities else "The claims on Table 3 are scored where table3 is made by the same command.",
        *_origin([*models, *of_modalities]),
    ]
    lines = [
        textwrap.fill(f"{row.section}: {row.claim}: {row.verdict}", WIDTH, subsequent_indent="  ")
        for row in counts.itertuples()
    ]
    _write_files(path, frame, [_plain(counts), _plain(frame)], notes)
    print(f"\n{path.name}\n\n" + "\n".join(lines) + f"\n\nWritten: {path}.md, .tex, .csv")


def _confounding(models: Sequence[ModelResults], references: Sequence[ModelResults], path: Path) -> None:
    frame = paper.confounding(models, references, MAIN)
    activity = equal_activity_groups(models[0])
    notes = [
        "low and high are 95 % bootstrap intervals over users. At equal activity: users with "
        f"{activity.fewest} to {activity.most} training interactions. At equal popularity: R@20 of each group within "
        "5 bins of held-out interactions by their item's popularity, averaged over the bins.",
        tied_note(frame),
        *_origin(models),
    ]
    shown = frame.assign(strategy=frame["strategy"].map(strategy_label)).rename(columns=metric_label)
    shown = shown.drop(columns=["tied consistent", "tied diverse"])
    _write_table(path, frame, _plain(shown, keys=2), notes)


def _origin(models: Sequence[ModelResults]) -> list[str]:
    """Where a table's numbers come from: dataset, seeds, configuration."""
    return [
        f"Dataset {models[0].dataset}. alpha, beta and iota were chosen on validation.",
        *dict.fromkeys(
            f"{model.label} ({'+'.join(model.modalities)}): seeds {model.config['seeds']}; "
            f"gamma {model.config['gamma']:g}, {_setting(model, '')}; U w/o TS {_setting(model, ' w/o TS')}; "
            f"{model.config['hyper-parameters']}."
            for model in models
        ),
    ]


def _setting(model: ModelResults, variant: str) -> str:
    return ", ".join(f"{name} {model.config[name + variant]:g}" for name in ("alpha", "beta", "iota"))


def _rho(models: Sequence[ModelResults], path: Path) -> None:
    from isolator_jax.reporting import paper_figures

    frame = paper.rho_and_recall(models)
    _write_figure(path, paper_figures.recall_against_rho(frame), frame)


def _shares(models: Sequence[ModelResults], path: Path) -> None:
    from isolator_jax.reporting import paper_figures

    frame = paper.bias(models, [BASELINE], SHARES)
    _write_figure(path, paper_figures.bias_by_share(frame), frame)


def _equal_activity(models: Sequence[ModelResults], path: Path) -> None:
    from isolator_jax.reporting import paper_figures

    frame = paper.bias_at_equal_activity(models)
    _write_figure(path, paper_figures.bias_at_equal_activity(frame), frame)


def _strategies(models: Sequence[ModelResults], path: Path) -> None:
    from isolator_jax.reporting import paper_figures

    frame = paper.bias(models, MAIN)
    _write_figure(path, paper_figures.bias_of_strategies(frame), frame)


def _ablation(models: Sequence[ModelResults], path: Path) -> None:
    from isolator_jax.reporting import paper_figures

    variants = list(STRATEGIES)
    means, bias = paper.means(models, variants, [RECALL]), paper.bias(models, variants)
    keys = [column for column in bias if column in means]
    _write_figure(path, paper_figures.ablation(means, bias, variants), means.merge(bias, on=keys))


_FIGURES: dict[str, Callable[[Sequence[ModelResults], Path], None]] = {
    "fig1": _rho,
    "fig2": _shares,
    "fig3": _equal_activity,
    "fig5": _strategies,
    "fig6": _ablation,
}
ARTEFACTS = ("table1", "table2", "table3", *_FIGURES, "claims", "confounding")


def _plain(frame: pd.DataFrame, keys: int = 1) -> Callable[[Marks], Table]:
    return lambda marks: paper_tables.plain_table(frame, marks)._replace(keys=keys)


def _write_table(path: Path, frame: pd.DataFrame, render: Callable[[Marks], Table], notes: Sequence[str] = ()) -> None:
    _write_files(path, frame, [render], notes)
    table = render(MARKDOWN)
    print(f"\n{path.name}\n\n{markdown_table(*table)}\n\nWritten: {path}.md, .tex, .csv")


def _write_files(
    path: Path, frame: pd.DataFrame, tables: Sequence[Callable[[Marks], Table]], notes: Sequence[str]
) -> None:
    """Markdown and LaTeX of the tables with notes below (comments above), and the CSV of the frame."""

    def text(marks: Marks) -> list[str]:
        return [paper_tables.typeset(render(marks), marks) for render in tables]

    notes = [note for note in notes if note]
    write_text(path.with_name(path.name + ".md"), "\n\n".join([*text(MARKDOWN), *map(markdown, notes)]) + "\n")
    comments = "".join(f"% {one_line(note)}\n" for note in notes)
    write_text(path.with_name(path.name + ".tex"), comments + "\n\n".join(text(LATEX)) + "\n")
    _write_csv(path, frame)


def _write_figure(path: Path, figure: "Figure", frame: pd.DataFrame) -> None:
    for suffix in ("png", "pdf"):
        save = functools.partial(figure.savefig, dpi=200, format=suffix)
        write_atomically(path.with_name(f"{path.name}.{suffix}"), save)
    _write_csv(path, frame)
    print(f"Written: {path}.png, .pdf, .csv")


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    safe = without_formulas(frame)
    write_atomically(path.with_name(path.name + ".csv"), lambda draft: safe.to_csv(draft, index=False))
