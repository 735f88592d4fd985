"""Forecasts with an interval: quantiles of groups, how well they did on what came later, what will be asked for."""
