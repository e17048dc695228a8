#!/bin/sh
# Makes the environment for the peers' part of benchmarks/attribution.py: kronfluence 1.0.1 and dattri 0.3.0.
#
#     benchmarks/attribution_peers.sh PYTHON FOLDER [WHEELS]
#
# PYTHON: the interpreter that spa-bench runs in; its packages (torch above all) are seen from FOLDER and not fetched again.
# WHEELS: a folder with the two wheels; without it they come from the package index.
# Both ask for torchvision, for which there may be no build beside a CPU build of torch: they are installed without their
# dependencies, and those that they need here by name. Neither imports torchvision for what is run here.
set -eu
python=$1
folder=$2
wheels=${3:-}
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

"$python" -m venv "$folder"
site=$("$folder/bin/python" -c 'import site; print(site.getsitepackages()[0])')
"$python" -c 'import site; print(site.getsitepackages()[0])' >"$site/spa-bench-environment.pth"
echo "$here/harness" >"$site/spa-bench-source.pth"
if [ -n "$wheels" ]; then
    "$folder/bin/python" -m pip install --quiet --no-deps --no-index --find-links "$wheels" kronfluence==1.0.1 dattri==0.3.0
else
    "$folder/bin/python" -m pip install --quiet --no-deps kronfluence==1.0.1 dattri==0.3.0
fi
"$folder/bin/python" -m pip install --quiet --no-deps einops==0.8.2 einconv==0.1.0 opt-einsum==3.4.0
"$folder/bin/python" -c 'import kronfluence, dattri; print("ready:", kronfluence.__file__, dattri.__file__)'
