#!/usr/bin/env bash
# with-display.sh [--virtual] COMMAND...: runs COMMAND under a display: the one at hand, else a virtual one.
# --virtual takes a virtual one always, so that windows of tests do not flicker over somebody's work.
set -euo pipefail
virtual=no
if [ "${1:-}" = --virtual ]; then virtual=yes; shift; fi
if [ "$(uname -s)" != Linux ]; then exec "$@"; fi
if [ "$virtual" = no ] && [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then exec "$@"; fi
unset WAYLAND_DISPLAY
export QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1
exec xvfb-run --auto-servernum --server-args="-screen 0 1600x1000x24" "$@"
