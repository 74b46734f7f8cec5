"""From cells to labels: readers and their agreement, doubtful labels, the labeller, and files of other tools.

Readings are rows that are only ever added; the labels that stand are computed from them (`current_labels`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["agreement_table", "compared_readers", "disagreement_counts"],
        "assign": [
            "MATCH_RADII",
            "corrected_labels",
            "count_classes",
            "detection_table",
            "label_cells",
            "labels_per_smear",
        ],
        "confident_learning": ["class_overlap", "find_label_issues"],
        "consensus": ["current_labels"],
        "data_card": ["audit_text", "data_card_text", "source_text"],
        "import_export": ["export_labels", "import_labels"],
        "labeller.widget": ["Labeller"],
        "odd_crops": ["across_split", "duplicate_cells", "outlier_scores"],
        "planted_errors": ["audit_scores", "plant_dev_errors"],
        "readings": ["append_readings", "load_readings"],
        "second_look": ["compare_second_look", "error_estimate", "relabel_queue", "simulated_labels"],
    },
)
