"""Pictures and clips, read, checked and written."""
