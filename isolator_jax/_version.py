"""The version's one place; setup.cfg reads it from here, so that it is right in a checkout, too."""

__version__ = "0.1.0"
