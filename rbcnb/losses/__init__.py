"""The focal loss, its rivals for imbalanced classes, and a toy problem to learn them on.

Every loss takes logits [N, C] and targets [N], as `torch.nn.functional.cross_entropy` does; `build_loss` makes one by
its name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exercises": ["BUDGET", "check_eps", "check_focal", "check_gamma", "check_prior", "least_gamma"],
        "focal": ["FocalLoss", "focal_loss"],
        "focal_curves": ["focal_curve", "loss_shares"],
        "imbalanced": [
            "LOSSES",
            "balanced_softmax",
            "build_loss",
            "class_balanced",
            "generalised_dice",
            "ldam",
            "logit_adjustment",
            "weighted_cross_entropy",
        ],
        "toy": ["sample_toy", "toy_posterior"],
        "toy_fits": [
            "alpha_distances",
            "fit_alphas",
            "fit_losses",
            "fit_noise",
            "fit_toy",
            "network_scores",
            "probabilities",
            "registered_losses",
        ],
    },
)
