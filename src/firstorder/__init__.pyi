from firstorder.library import Accuracy as Accuracy
from firstorder.library import Adapted as Adapted
from firstorder.library import Learner as Learner
from firstorder.library import load as load
from firstorder.library import train as train

__version__: str
NUMERICS_VERSION: int
