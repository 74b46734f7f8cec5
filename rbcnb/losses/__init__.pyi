# The public names of this folder, each loaded when it is first used.
from .exercises import (
    BUDGET as BUDGET,
)
from .exercises import (
    check_eps as check_eps,
)
from .exercises import (
    check_focal as check_focal,
)
from .exercises import (
    check_gamma as check_gamma,
)
from .exercises import (
    check_prior as check_prior,
)
from .exercises import (
    least_gamma as least_gamma,
)
from .focal import FocalLoss as FocalLoss
from .focal import focal_loss as focal_loss
from .focal_curves import focal_curve as focal_curve
from .focal_curves import loss_shares as loss_shares
from .imbalanced import (
    LOSSES as LOSSES,
)
from .imbalanced import (
    balanced_softmax as balanced_softmax,
)
from .imbalanced import (
    build_loss as build_loss,
)
from .imbalanced import (
    class_balanced as class_balanced,
)
from .imbalanced import (
    generalised_dice as generalised_dice,
)
from .imbalanced import (
    ldam as ldam,
)
from .imbalanced import (
    logit_adjustment as logit_adjustment,
)
from .imbalanced import (
    weighted_cross_entropy as weighted_cross_entropy,
)
from .toy import sample_toy as sample_toy
from .toy import toy_posterior as toy_posterior
from .toy_fits import (
    alpha_distances as alpha_distances,
)
from .toy_fits import (
    fit_alphas as fit_alphas,
)
from .toy_fits import (
    fit_losses as fit_losses,
)
from .toy_fits import (
    fit_noise as fit_noise,
)
from .toy_fits import (
    fit_toy as fit_toy,
)
from .toy_fits import (
    network_scores as network_scores,
)
from .toy_fits import (
    probabilities as probabilities,
)
from .toy_fits import (
    registered_losses as registered_losses,
)
