"""ISOLATOR in JAX: measure and correct how multi-modal recommenders use content similarity.

The public names are the primitives and their types: pure functions on arrays, for models
trained here or elsewhere. Everything else is found in the module of its topic.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from isolator_jax._public import *  # noqa: F403
    from isolator_jax._public import __all__ as __all__
else:  # a checker would take any name for one that `__getattr__` knows

    def __getattr__(name: str) -> Any:
        """A public name or a module of this package, imported when it is first asked for.

        JAX takes seconds to import: a command takes its signals before that, and tells its help without it.
        """
        if name == "__all__" or not name.startswith("_"):
            import importlib.util

            if importlib.util.find_spec(f"{__name__}.{name}") is not None:
                return importlib.import_module(f"{__name__}.{name}")
            from isolator_jax import _public

            if name == "__all__" or name in _public.__all__:
                return getattr(_public, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from isolator_jax import _public

        return sorted({*globals(), *_public.__all__})
