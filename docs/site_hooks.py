"""What the site is built with besides its pages."""

from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """A number and its deviation stay on one line."""
    return html.replace(" ± ", "&nbsp;±&nbsp;")
