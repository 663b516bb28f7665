#!/usr/bin/env bash
# set-up.sh [run|dev]: makes .venv and installs what is missing, and nothing when nothing is.
#   run  what the window and the command line need (the default)
#   dev  the tests' and the developers' tools as well
# PYTHON=... chooses the interpreter, SPOTSCOPE_VENV=... the folder.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-run}
venv=${SPOTSCOPE_VENV:-.venv}
qt_packages=(
  libgl1 libegl1 libopengl0 libgl1-mesa-dri libglib2.0-0 libdbus-1-3 libfontconfig1 libsm6 libxext6 libxrender1
  libxkbcommon0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
  libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 fonts-dejavu-core
)
virtual_display_packages=(xvfb xauth x11-utils)

say() { printf '%s\n' "$*"; }
stop() { say "$*" >&2; exit 1; }

is_installed() { # newer Debian and Ubuntu releases end some of the names in t64
  local state
  state=$(dpkg-query -W -f='${Status}\n' "$1" "${1}t64" 2>/dev/null || true)
  [[ $state == *"install ok installed"* ]]
}

missing_system_packages() {
  local name wanted=("${qt_packages[@]}")
  if [ "$kind" = dev ] || [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    wanted+=("${virtual_display_packages[@]}")
  fi
  python_works -c 'import ensurepip, venv' || wanted+=(python3-venv)
  for name in "${wanted[@]}"; do is_installed "$name" || printf '%s ' "$name"; done
}

install_system_packages() {
  [ "$(uname -s)" = Linux ] || return 0
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    if [ -z "${DISPLAY:-}" ] && ! command -v xvfb-run >/dev/null; then
      stop "There is no display here: install xvfb-run (Xvfb, xauth and Mesa's software OpenGL) and start again."
    fi
    return 0
  fi
  local missing as_root=()
  missing=$(missing_system_packages)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    if ! { command -v sudo && sudo -n true; } >/dev/null 2>&1; then
      stop "System libraries are missing: run 'sudo apt-get install ${missing% }' and start again."
    fi
    as_root=(sudo -n)
  fi
  say "Installing system libraries for the window: ${missing% }"
  local apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq)
  "${apt[@]}" update || say "The package lists could not be renewed; the ones at hand are used." >&2
  # shellcheck disable=SC2086 # a list of plain names
  "${apt[@]}" install -y --no-install-recommends $missing >/dev/null 2>&1 ||
    stop "apt could not install them: run 'apt-get install ${missing% }' by hand to see why, then start again."
}

python_works() { [ -n "${python:-}" ] && "$python" "$@" >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    python=$candidate
    if python_works -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then return; fi
  done
  stop "SpotScope needs Python 3.11 or newer: install it, or name it with PYTHON=/path/to/python3."
}

# The same as last time when constraints, metadata and interpreter are.
fingerprint() { { cat constraints.txt pyproject.toml; "$venv/bin/python" -VV; pwd; } | cksum; }

install_python_packages() {
  local stamp=$venv/.spotscope-$kind other=$venv/.spotscope-dev
  [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ] && return 0
  [ "$(cat "$other" 2>/dev/null)" = "$(fingerprint)" ] && return 0 # dev holds all of run
  local install=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install)
  [ -t 1 ] || install+=(--quiet --progress-bar off)
  "${install[@]}" "$(grep '^pip==' constraints.txt)"
  local wanted=(--editable '.[pyqt6]')
  [ "$kind" = dev ] && wanted+=(--group dev)
  say "Installing Python packages into $venv (about 3 GB to fetch; some minutes the first time)"
  # Bytecode is made for what is used, when it is first used: that is quicker than for everything.
  "${install[@]}" --no-compile --constraint constraints.txt "${wanted[@]}" ||
    stop "The Python packages were not all installed: see the lines above, mend that, and run the same command again."
  fingerprint >"$stamp"
}

case $kind in run | dev) ;; *) stop "usage: scripts/set-up.sh [run|dev]" ;; esac
find_python
install_system_packages
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
install_python_packages
