#!/usr/bin/env bash
# fetch_hosts.sh FOLDER PYTHON: checkouts of the repositories that tests/native runs, each at the commit that it was read at.
set -u
folder=$1 python=$2
mkdir -p "$folder"
fetch() { # NAME OWNER COMMIT
  [ -d "$folder/$1" ] && return
  git init -q "$folder/$1.part" && git -C "$folder/$1.part" fetch -q --depth 1 "https://github.com/$2/$1" "$3" \
    && git -C "$folder/$1.part" checkout -q FETCH_HEAD && mv "$folder/$1.part" "$folder/$1" && return
  rm -rf "$folder/$1.part"
  echo "$1 could not be fetched; its tests are skipped. Put a checkout at $folder/$1." >&2
}
fetch Wan2.1 Wan-Video 9737cba9c1c3c4d04b33fcad41c111989865d315
fetch Wan2.2 Wan-Video 42bf4cfaa384bc21833865abc2f9e6c0e67233dc
fetch FramePack lllyasviel 97fe5dbe06ac1f337ece08935b1076a35eefeeb9
fetch FramePack-Studio colinurbs f4369daf1a9a843de192563bf41fadae05988456
fetch SkyReels-V2 SkyworkAI abed76fec91103e4543c747eee45334137b3a558
fetch OmniGen2 VectorSpaceLab 0f72fa92564d9f8ba76f53fcc3c05aca2372458f
pip() { # FOLDER PACKAGES: without their requirements, so that torch stays as it is
  [ -d "$folder/$1" ] || "$python" -m pip install --quiet --no-deps --target "$folder/$1" "${@:2}" \
    || echo "$1 could not be installed; its tests are skipped." >&2
}
pip DiffSynth diffsynth==2.1.12
pip deps easydict einops imageio
