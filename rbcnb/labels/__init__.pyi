# The public names of this folder, each loaded when it is first used.
from .agreement import (
    agreement_table as agreement_table,
)
from .agreement import (
    compared_readers as compared_readers,
)
from .agreement import (
    disagreement_counts as disagreement_counts,
)
from .assign import (
    MATCH_RADII as MATCH_RADII,
)
from .assign import (
    corrected_labels as corrected_labels,
)
from .assign import (
    count_classes as count_classes,
)
from .assign import (
    detection_table as detection_table,
)
from .assign import (
    label_cells as label_cells,
)
from .assign import (
    labels_per_smear as labels_per_smear,
)
from .confident_learning import class_overlap as class_overlap
from .confident_learning import find_label_issues as find_label_issues
from .consensus import current_labels as current_labels
from .data_card import audit_text as audit_text
from .data_card import data_card_text as data_card_text
from .data_card import source_text as source_text
from .import_export import export_labels as export_labels
from .import_export import import_labels as import_labels
from .labeller.widget import Labeller as Labeller
from .odd_crops import (
    across_split as across_split,
)
from .odd_crops import (
    duplicate_cells as duplicate_cells,
)
from .odd_crops import (
    outlier_scores as outlier_scores,
)
from .planted_errors import audit_scores as audit_scores
from .planted_errors import plant_dev_errors as plant_dev_errors
from .readings import append_readings as append_readings
from .readings import load_readings as load_readings
from .second_look import (
    compare_second_look as compare_second_look,
)
from .second_look import (
    error_estimate as error_estimate,
)
from .second_look import (
    relabel_queue as relabel_queue,
)
from .second_look import (
    simulated_labels as simulated_labels,
)
