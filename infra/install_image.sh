#!/bin/sh
# Installs what the image consists of into a virtual environment, from the root of the sources. infra/Dockerfile
# runs it for the image, and `make sbom` for the list of its parts, so that the two cannot differ.
#   sh infra/install_image.sh ENVIRONMENT
set -eu
python=$1/bin/python
"$python" -m pip install --require-hashes --no-deps --requirement infra/image.lock
"$python" -m pip install --no-deps --no-build-isolation .
# What only builds the package.
"$python" -m pip uninstall --yes editables hatchling pathspec pluggy tomlkit trove-classifiers
