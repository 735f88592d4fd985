"""How much privacy a number of rounds has cost: ε at a given δ, by privacy loss distributions (`dp-accounting`)."""

from functools import lru_cache

from thalweg.learning.privacy.terms import PrivacyTerms


def epsilon(terms: PrivacyTerms, rounds: int) -> float:
    """Return ε after so many releases; 0 for none. Adding or removing one participant is what cannot be seen.

    Raises:
        ModuleNotFoundError: `dp-accounting` is not installed (the extra `learning`).
    """
    if rounds == 0:
        return 0.0
    return _epsilon(terms.noise_multiplier, terms.sample_rate, terms.delta, rounds)


def affordable_rounds(terms: PrivacyTerms, most: int) -> int:
    """How many releases the budget bears, at most so many."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if epsilon(terms, middle) <= terms.budget_epsilon else (low, middle - 1)
    return low


def noise_for(target: float, delta: float, sample_rate: float, rounds: int) -> float:
    """Return the least noise multiplier, to a hundredth, with which so many rounds cost at most ε = `target`."""
    low, high = 1, 10_000
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if _epsilon(middle / 100, sample_rate, delta, rounds) <= target else (middle + 1, high)
        )
    return low / 100


@lru_cache(maxsize=4_096)
def _epsilon(noise_multiplier: float, sample_rate: float, delta: float, rounds: int) -> float:
    from dp_accounting import dp_event  # late: an extra
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    release = dp_event.PoissonSampledDpEvent(sample_rate, dp_event.GaussianDpEvent(noise_multiplier))
    accountant.compose(release, rounds)
    return float(accountant.get_epsilon(delta))
