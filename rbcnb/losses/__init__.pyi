# The public names of this folder, each loaded when it is first used.
from .exercises import (
    check_eps as check_eps,
    check_focal as check_focal,
    check_gamma as check_gamma,
    check_prior as check_prior,
)
from .focal import FocalLoss as FocalLoss, focal_loss as focal_loss
from .focal_curves import focal_curve as focal_curve, group_shares as group_shares, loss_shares as loss_shares
from .imbalanced import (
    LOSSES as LOSSES,
    ClassLoss as ClassLoss,
    balanced_softmax as balanced_softmax,
    build_loss as build_loss,
    class_balanced as class_balanced,
    generalised_dice as generalised_dice,
    ldam as ldam,
    logit_adjustment as logit_adjustment,
    weighted_cross_entropy as weighted_cross_entropy,
)
from .toy import sample_toy as sample_toy, toy_posterior as toy_posterior
from .toy_fits import (
    alpha_distances as alpha_distances,
    fit_alphas as fit_alphas,
    fit_losses as fit_losses,
    fit_noise as fit_noise,
    fit_toy as fit_toy,
    network_scores as network_scores,
    probabilities as probabilities,
    registered_losses as registered_losses,
)
