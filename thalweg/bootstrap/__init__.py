"""Bring a bare machine to a ready environment: Python packages, Java, JVM jars; nothing outside .venv and the cache.

Standard library only: it runs before anything is installed.
"""
