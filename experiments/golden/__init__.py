"""How the golden files of an independent implementation name what each backbone has."""

from .layouts import LAYOUTS, GoldenLayout

__all__ = ["LAYOUTS", "GoldenLayout"]
