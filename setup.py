"""Find the packages: `ringback`, below which the top-level folders `models`, `jobs` and `graphql_api` are installed.

pyproject.toml holds everything else. It cannot say this, since its package discovery has no prefix to add.
"""

from setuptools import find_packages, setup

FOLDERS = ("models", "jobs", "graphql_api")
packages = find_packages(include=[pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")])
# The folder `ringback` has no __init__.py: it holds only what `python -m ringback` runs.
setup(packages=["ringback", *(f"ringback.{package}" for package in packages)])
