"""Figures: each function takes tables or arrays and returns a Matplotlib Figure; nothing is trained or saved.

Functions named plot_* make the figures of the paper and of the report; the others are drawings that sliders move.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cells": [
            "plot_class_examples",
            "plot_contact_sheet",
            "plot_detections",
            "plot_heat",
            "plot_mistakes",
            "plot_segmentation_steps",
            "plot_smears",
            "plot_upscaling",
        ],
        "comparisons": [
            "plot_alpha_sweep",
            "plot_answer",
            "plot_class_counts",
            "plot_differences",
            "plot_gaps_by_rho",
            "plot_relative_improvement",
            "plot_scores_by_rho",
            "plot_summary",
        ],
        "diagrams": ["plot_densenet", "plot_process", "plot_residual_block", "plot_resnet"],
        "evaluation": ["plot_confusion", "plot_reliability", "plot_roc"],
        "labels": ["plot_agreement", "plot_disagreement", "plot_duplicates", "plot_overlap", "plot_suspects"],
        "lesson": [
            "best_of",
            "calibration_map",
            "loss_budget",
            "loss_terms",
            "noise_budget",
            "plot_focal_curves",
            "plot_loss_shares",
            "prior_shift",
        ],
        "sliders": ["choice", "explore", "slider", "stills", "toggle"],
        "toy": ["alpha_lecture", "calibration_fits", "plot_noise_training", "toy_boundaries"],
        "training": ["plot_training_loss", "plot_tuning"],
    },
)
