# The public names of this folder, each loaded when it is first used.
from .batch import segment_files as segment_files
from .diameter import estimate_diameter as estimate_diameter
from .matching import detection_scores as detection_scores
from .matching import match_cells as match_cells
from .segment import (
    METHODS as METHODS,
)
from .segment import (
    FinderSpec as FinderSpec,
)
from .segment import (
    find_cells as find_cells,
)
from .segment import (
    segment_smear as segment_smear,
)
from .segment_many import first_example as first_example
from .segment_many import segment_smears as segment_smears
from .upscaling import upscale as upscale
from .upscaling import usable_method as usable_method
