"""For the reference: attributes that share a line of a docstring keep their names, `users, items: ids`."""

import re
from typing import Any

import griffe

_SHARED = re.compile(r"^( +)(\w+)((?:, \w+)+)(?=: )", re.MULTILINE)


class SharedLines(griffe.Extension):
    """Gives them the type of the first, and joins the names by spaces that do not break: a plain one ends a name."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        if cls.docstring is not None:
            cls.docstring.value = _SHARED.sub(lambda found: _with_type(cls, *found.groups()), cls.docstring.value)


def _with_type(cls: griffe.Class, indent: str, first: str, others: str) -> str:
    member = cls.members.get(first)
    annotation = getattr(member, "annotation", None)
    names = first + others.replace(" ", "\u00a0")
    return f"{indent}{names} ({annotation})" if annotation is not None else f"{indent}{names}"
