# The public names of this folder, each loaded when it is first used.
from .agreement import (
    agreement_table as agreement_table,
    compared_readers as compared_readers,
    disagreement_counts as disagreement_counts,
)
from .assign import (
    MATCH_RADII as MATCH_RADII,
    corrected_labels as corrected_labels,
    count_classes as count_classes,
    detection_table as detection_table,
    label_cells as label_cells,
    labels_per_smear as labels_per_smear,
    without_rare as without_rare,
)
from .confident_learning import class_overlap as class_overlap, find_label_issues as find_label_issues
from .consensus import current_labels as current_labels
from .data_card import audit_text as audit_text, data_card_text as data_card_text, source_text as source_text
from .import_export import export_labels as export_labels, import_labels as import_labels
from .labeller.widget import Labeller as Labeller
from .odd_crops import (
    across_split as across_split,
    duplicate_cells as duplicate_cells,
    outlier_scores as outlier_scores,
)
from .planted_errors import audit_scores as audit_scores, plant_dev_errors as plant_dev_errors
from .readings import append_readings as append_readings, load_readings as load_readings
from .second_look import (
    compare_second_look as compare_second_look,
    error_estimate as error_estimate,
    relabel_queue as relabel_queue,
    simulated_labels as simulated_labels,
)
