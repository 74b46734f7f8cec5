# The public names of this folder, each loaded when it is first used.
from .cells import (
    picture_of_detections as picture_of_detections,
    plot_class_examples as plot_class_examples,
    plot_contact_sheet as plot_contact_sheet,
    plot_finders as plot_finders,
    plot_heat as plot_heat,
    plot_mistakes as plot_mistakes,
    plot_segmentation_steps as plot_segmentation_steps,
    plot_smears as plot_smears,
    plot_upscaling as plot_upscaling,
)
from .comparisons import (
    plot_alpha_sweep as plot_alpha_sweep,
    plot_answer as plot_answer,
    plot_class_counts as plot_class_counts,
    plot_differences as plot_differences,
    plot_gaps_by_rho as plot_gaps_by_rho,
    plot_imbalance_lesson as plot_imbalance_lesson,
    plot_relative_improvement as plot_relative_improvement,
    plot_scores_by_rho as plot_scores_by_rho,
    plot_study_answer as plot_study_answer,
    plot_summary as plot_summary,
)
from .diagrams import (
    plot_densenet as plot_densenet,
    plot_process as plot_process,
    plot_residual_block as plot_residual_block,
    plot_resnet as plot_resnet,
)
from .evaluation import plot_confusion as plot_confusion, plot_reliability as plot_reliability, plot_roc as plot_roc
from .explorers import Control as Control, Explorer as Explorer, steps as steps
from .kernel_pictures import KernelPictures as KernelPictures
from .labels import (
    plot_agreement as plot_agreement,
    plot_disagreement as plot_disagreement,
    plot_duplicates as plot_duplicates,
    plot_overlap as plot_overlap,
    plot_suspects as plot_suspects,
)
from .lesson import (
    best_of as best_of,
    calibration_map as calibration_map,
    loss_budget as loss_budget,
    loss_share_bars as loss_share_bars,
    loss_terms as loss_terms,
    noise_budget as noise_budget,
    prior_shift as prior_shift,
    study_answer as study_answer,
)
from .sliders import explore as explore
from .style import show_current_figure as show_current_figure
from .toy import (
    alpha_lecture as alpha_lecture,
    calibration_fits as calibration_fits,
    noise_training as noise_training,
    toy_boundaries as toy_boundaries,
    toy_explorer as toy_explorer,
    toy_frames as toy_frames,
)
from .training import (
    plot_focal_curves as plot_focal_curves,
    plot_training_loss as plot_training_loss,
    plot_tuning as plot_tuning,
)
