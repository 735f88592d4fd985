"""What an attacker can show of the privacy that was lost: a lower bound of ε, which must not be above the claim.

The attacker knows every update, sees a release, and guesses whether one participant was in it; that one sends the
change that is easiest to see, of full length along one parameter. Of many releases with and without it the rates of
right and wrong guesses bound ε from below (Jagielski, Ullman and Oprea 2020; bounds of Clopper and Pearson 1934).
"""

import numpy as np

from thalweg.learning.aggregates.strategies import ReceivedUpdate
from thalweg.learning.privacy.terms import PrivacyTerms, private_step


def audited_epsilon(terms: PrivacyTerms, size: int, releases: int, confidence: float, seed: int) -> float:
    """Return the largest ε that the releases prove with this confidence, at the terms' δ; 0 where they prove none.

    Args:
        terms: of the mechanism; one release of it is attacked, with everybody called.
        size: parameters.
        releases: of either kind.
        confidence: of the bound.
        seed: names the releases.
    """
    from scipy.stats import beta

    canary = np.zeros(size, np.float32)
    canary[0] = terms.clip_norm * 100  # it is shortened
    one = ReceivedUpdate(participant="canary", vector=canary, samples=1, staleness=0)
    without, within = (
        np.array([private_step(sent, size, terms, 1.0, f"audit {seed}".encode(), kind, n)[0] for n in range(releases)])
        for kind, sent in (("without", []), ("within", [one]))
    )
    risk = (1 - confidence) / 2
    best = 0.0
    for limit in np.quantile(np.concatenate([without, within]), np.linspace(0.05, 0.95, 19)):
        right, wrong = int((within > limit).sum()), int((without > limit).sum())
        # The rate of right guesses is at least this, that of wrong ones at most that.
        least = beta.ppf(risk / 19, right, releases - right + 1) if right else 0.0
        most = beta.ppf(1 - risk / 19, wrong + 1, releases - wrong) if wrong < releases else 1.0
        if least > terms.delta:
            best = max(best, float(np.log((least - terms.delta) / most)))
    return best
