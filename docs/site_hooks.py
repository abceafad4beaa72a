"""What the site is built with besides its pages."""

import re
from typing import Any

from latex2mathml.converter import convert

_RAISED_PRIME = re.compile(r"<msup>(<mrow>(?:(?!<msup>).)*</mrow>)<mi>&#x02032;</mi></msup>")
_EQUATION = re.compile(r"^```math\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Equations become MathML, which browsers show without a script."""
    return _EQUATION.sub(lambda found: f'<div class="math">{_mathml(found[1])}</div>', markdown)


def _mathml(equation: str) -> str:
    """The letter for a prime stands high as it is."""
    return _RAISED_PRIME.sub(r"\1<mi>&#x02032;</mi>", convert(equation, display="block"))


def on_page_content(html: str, **_: Any) -> str:
    """A number and its deviation stay on one line."""
    return html.replace(" ± ", "&nbsp;±&nbsp;")
