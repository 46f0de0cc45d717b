"""Files: those of others, read with care; ours, which appear under their name only when they are complete."""

from alignvid.files.lines import append_lines, json_lines
from alignvid.files.reading import (
    check_file,
    found_below,
    is_foreign,
    is_there,
    opened,
    read_bytes,
    read_json,
    read_lines,
    sha256_of_file,
    user_path,
)
from alignvid.files.writing import (
    folder_for_results,
    held,
    sha256_of_bytes,
    writable_folder,
    write_bytes,
    write_together,
)

__all__ = [
    "append_lines",
    "check_file",
    "folder_for_results",
    "found_below",
    "held",
    "is_foreign",
    "is_there",
    "json_lines",
    "opened",
    "read_bytes",
    "read_json",
    "read_lines",
    "sha256_of_bytes",
    "sha256_of_file",
    "user_path",
    "writable_folder",
    "write_bytes",
    "write_together",
]
