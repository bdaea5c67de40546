"""params.yaml: its settings, checked; their digests; and the paths of all results. No torch, no data."""

from firstorder.settings.digests import digest, first_difference, resolved
from firstorder.settings.paths import (
    ADAPTATION,
    ALPHABETS,
    CURVE,
    EXPANSION,
    INNER_PRODUCTS,
    MANIFOLD_POINTS,
    MODEL,
    RECORD,
    SINE_FITS,
    SINE_LOSSES,
)
from firstorder.settings.project import Cell, Project, SweepMember, lookup
from firstorder.settings.report import FigureSettings, TableRow, TableSettings
from firstorder.settings.schema import LARGEST_SEED
from firstorder.settings.studies import (
    ExpansionSettings,
    InnerProductSettings,
    ManifoldSettings,
    SineSettings,
    SineTrainingSettings,
)
from firstorder.settings.trainings import (
    MODES,
    WITHOUT_MEMORY,
    CurveSettings,
    DatasetSettings,
    EvaluationSettings,
    ImageSettings,
    Mode,
    TrainingSettings,
)
