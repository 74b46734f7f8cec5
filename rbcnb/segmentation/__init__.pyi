# The public names of this folder, each loaded when it is first used.
from .batch import segment_files as segment_files
from .diameter import estimate_diameter as estimate_diameter
from .matching import detection_scores as detection_scores, match_cells as match_cells
from .segment import (
    METHODS as METHODS,
    FinderSpec as FinderSpec,
    find_cells as find_cells,
    segment_smear as segment_smear,
    spec_for as spec_for,
)
from .segment_many import first_example as first_example, segment_smears as segment_smears
from .upscaling import upscale as upscale, usable_method as usable_method
