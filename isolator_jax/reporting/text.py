"""Foreign text where it is written: a name stays text, never markup, mathematics or a formula.

Names of datasets, runs, modalities and hyper-parameters come from files of others. Each function
makes one of them harmless for one kind of file; all put it on one line of printable characters.
"""

import re

import pandas as pd

from isolator_jax.errors import brief

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{character: f"\\{character}" for character in "{}$&#_%"},
    }
)
_MARKDOWN = str.maketrans({**{character: f"\\{character}" for character in "\\|`*<["}, "&": "&amp;"})
_AT_A_WORDS_END = re.compile(r"(?<!\w)_|_(?!\w)|(?<=_)_|_(?=_)")
_FORMULA = ("=", "+", "-", "@")

_LONGEST = 100_000


def one_line(value: object) -> str:
    """On one line, control characters written out.

    Examples:
      >>> one_line("a\\tname\\n\\x1b[31m")
      'a name \\\\x1b[31m'
    """
    return brief(" ".join(str(value).split()), _LONGEST)


def latex(value: object) -> str:
    r"""For LaTeX's text.

    Examples:
      >>> print(latex("amazon_baby"), latex(r"\write18{x}"))
      amazon\_baby \textbackslash{}write18\{x\}
    """
    return one_line(value).translate(_LATEX)


def markdown(value: object) -> str:
    """For a cell or a line of Markdown; an underscore within a word needs nothing.

    Examples:
      >>> print(markdown("a_b|<c>"), markdown("_all_"), markdown("R&D"))
      a_b\\|\\<c> \\_all\\_ R&amp;D
    """
    return _AT_A_WORDS_END.sub(r"\_", one_line(value).translate(_MARKDOWN))


def literal(value: object) -> str:
    r"""For matplotlib, which reads what stands between dollars as mathematics.

    Examples:
      >>> print(literal("a$_$b"))
      a\$_\$b
    """
    return one_line(value).replace("$", r"\$")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """For CSV: text that a spreadsheet would take for a formula, column names too, begins with an apostrophe.

    Numbers stay as they are.

    Examples:
      >>> without_formulas(pd.DataFrame({"run": ["=1+1", "plain"], "value": [-1.0, 2.0]}))["run"].tolist()
      ["'=1+1", 'plain']
    """

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = one_line(value)
        return f"'{text}" if text.startswith(_FORMULA) else text

    return frame.map(cell).rename(columns=cell)
