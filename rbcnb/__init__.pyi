# The folders of the package, each loaded when it is first used.
from . import (
    counting as counting,
    evaluation as evaluation,
    labels as labels,
    losses as losses,
    plotting as plotting,
    segmentation as segmentation,
    smears as smears,
    study as study,
    training as training,
    workflow as workflow,
)

__version__: str
