# The public names of this folder, each loaded when it is first used.
from .cells import (
    plot_class_examples as plot_class_examples,
)
from .cells import (
    plot_contact_sheet as plot_contact_sheet,
)
from .cells import (
    plot_detections as plot_detections,
)
from .cells import (
    plot_heat as plot_heat,
)
from .cells import (
    plot_mistakes as plot_mistakes,
)
from .cells import (
    plot_segmentation_steps as plot_segmentation_steps,
)
from .cells import (
    plot_smears as plot_smears,
)
from .cells import (
    plot_upscaling as plot_upscaling,
)
from .comparisons import (
    plot_alpha_sweep as plot_alpha_sweep,
)
from .comparisons import (
    plot_answer as plot_answer,
)
from .comparisons import (
    plot_class_counts as plot_class_counts,
)
from .comparisons import (
    plot_differences as plot_differences,
)
from .comparisons import (
    plot_gaps_by_rho as plot_gaps_by_rho,
)
from .comparisons import (
    plot_relative_improvement as plot_relative_improvement,
)
from .comparisons import (
    plot_scores_by_rho as plot_scores_by_rho,
)
from .comparisons import (
    plot_summary as plot_summary,
)
from .diagrams import (
    plot_densenet as plot_densenet,
)
from .diagrams import (
    plot_process as plot_process,
)
from .diagrams import (
    plot_residual_block as plot_residual_block,
)
from .diagrams import (
    plot_resnet as plot_resnet,
)
from .evaluation import plot_confusion as plot_confusion
from .evaluation import plot_reliability as plot_reliability
from .evaluation import plot_roc as plot_roc
from .labels import (
    plot_agreement as plot_agreement,
)
from .labels import (
    plot_disagreement as plot_disagreement,
)
from .labels import (
    plot_duplicates as plot_duplicates,
)
from .labels import (
    plot_overlap as plot_overlap,
)
from .labels import (
    plot_suspects as plot_suspects,
)
from .lesson import (
    best_of as best_of,
)
from .lesson import (
    calibration_map as calibration_map,
)
from .lesson import (
    loss_budget as loss_budget,
)
from .lesson import (
    loss_terms as loss_terms,
)
from .lesson import (
    noise_budget as noise_budget,
)
from .lesson import (
    plot_focal_curves as plot_focal_curves,
)
from .lesson import (
    plot_loss_shares as plot_loss_shares,
)
from .lesson import (
    prior_shift as prior_shift,
)
from .sliders import choice as choice
from .sliders import explore as explore
from .sliders import slider as slider
from .sliders import stills as stills
from .sliders import toggle as toggle
from .toy import (
    alpha_lecture as alpha_lecture,
)
from .toy import (
    calibration_fits as calibration_fits,
)
from .toy import (
    plot_noise_training as plot_noise_training,
)
from .toy import (
    toy_boundaries as toy_boundaries,
)
from .training import plot_training_loss as plot_training_loss
from .training import plot_tuning as plot_tuning
