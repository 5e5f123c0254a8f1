#!/bin/bash
# Check the format of the C sources; with -i, rewrite them.
set -eu
cd "$(dirname "$0")/.."

mode=(--dry-run -Werror)
[ "${1:-}" != -i ] || mode=(-i)

mapfile -t files < <(find src include test -name '*.[ch]' 2>/dev/null | sort)
[ ${#files[@]} -eq 0 ] || clang-format-14 "${mode[@]}" --style=file "${files[@]}"
