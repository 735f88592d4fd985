"""Forecasts on a public trace, beside boosted trees and what knows less."""
