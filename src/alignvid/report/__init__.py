"""Tables and pages for people: for now the page that plays videos side by side."""

from alignvid.report.page import PAGE_FILE, Clip, Count, Page, Row, Verdict, write_page
from alignvid.report.rows import comparison_files, jobs_page, row_of_failure, row_of_record

__all__ = [
    "PAGE_FILE",
    "Clip",
    "Count",
    "Page",
    "Row",
    "Verdict",
    "comparison_files",
    "jobs_page",
    "row_of_failure",
    "row_of_record",
    "write_page",
]
