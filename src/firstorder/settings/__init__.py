"""params.yaml: its settings, checked; their digests; and the paths of all results. No torch, no data.

The names below are declared in `__init__.pyi` and imported from their modules when they are first used: a command that
only prints its help needs none of them.
"""

from importlib import import_module

_NAMES = {
    "digests": ("digest", "first_difference", "resolved"),
    "paths": (
        "ADAPTATION",
        "ALPHABETS",
        "CURVE",
        "EXPANSION",
        "INNER_PRODUCTS",
        "MANIFOLD_POINTS",
        "MODEL",
        "RECORD",
        "SINE_FITS",
        "SINE_LOSSES",
    ),
    "project": ("Cell", "Project", "SweepMember", "lookup"),
    "report": ("FigureSettings", "TableRow", "TableSettings"),
    "schema": ("LARGEST_SEED",),
    "studies": (
        "ExpansionSettings",
        "InnerProductSettings",
        "ManifoldSettings",
        "SineSettings",
        "SineTrainingSettings",
    ),
    "trainings": (
        "MODES",
        "WITHOUT_MEMORY",
        "CurveSettings",
        "DatasetSettings",
        "EvaluationSettings",
        "ImageSettings",
        "Mode",
        "TrainingSettings",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a name from its module, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
